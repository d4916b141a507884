//! The end of a run: everything works again, and everybody gets level.

use super::Run;
use crate::checks::{self, Broken};
use crate::disk::DiskState;
use crate::network::LinkSpeed;
use crate::world::{SERVED_MS, is_hub};

/// After mending, everything must be level within this, virtual ms.
pub const CONVERGENCE_MS: i64 = 15 * 60_000;

impl Run {
    /// Everything works again; gives how long it took until everybody was level.
    pub(super) fn mend(&mut self) -> Result<i64, Broken> {
        self.heal();
        self.happening = (self.world.hub().to_owned(), "found while mending".to_owned());
        let names: Vec<String> = self.world.nodes.keys().cloned().collect();
        if self.world.company.is_some() {
            self.mend_hubs();
        }
        let on_disks = |name: &&String| self.world.company.is_none() || !is_hub(name);
        let names: Vec<String> = names.iter().filter(on_disks).cloned().collect();
        for name in &names {
            let node = self.world.node(name);
            node.disk_ms = (0, 4);
            node.speed = LinkSpeed { delay_ms: (1, 20), bytes_a_ms: 0 };
            let host_failed = node.host().is_some_and(|host| host.failed().is_some());
            if !node.is_up()
                || node.disk.state != DiskState::Works
                || host_failed
                || node.disk.on_their_way() > 0
            {
                self.collect();
                self.world.stop(name, 0);
                self.start(name);
            }
        }
        // Two devices with one key take turns at the hub; the copy is found and switched off once it is empty.
        let from_ms = self.world.now_ms;
        let copies: Vec<String> = self.copies.values().cloned().collect();
        for copy in copies {
            for name in [copy.trim_end_matches("-copy"), copy.as_str()] {
                let hub = self.world.hub().to_owned();
                self.world.connect(name, &hub);
                self.world.run_for(30_000);
            }
            self.collect();
            self.world.node(&copy).dials = None;
            self.world.stop(&copy, 0);
            // Nobody takes its place any more.
            let hub = self.world.hub().to_owned();
            self.world.connect(copy.trim_end_matches("-copy"), &hub);
        }
        let until_ms = self.world.now_ms + CONVERGENCE_MS;
        while self.world.now_ms < until_ms {
            self.world.run_for(15_000);
            if checks::is_level(&self.world) {
                break;
            }
        }
        self.collect();
        if !checks::is_level(&self.world) {
            let waits: Vec<String> = checks::not_level(&self.world);
            return Err(Broken::new(
                "everybody is level within bounded time after mending",
                waits.join("; "),
            ));
        }
        let took_ms = self.world.now_ms - from_ms;
        self.world.run_for(30_000);
        Ok(took_ms)
    }

    /// The database is well, every hub is there and goes on, and they have had time to share the logs.
    fn mend_hubs(&mut self) {
        if let Some(company) = &mut self.world.company {
            company.database.heal();
        }
        self.world.wake_hubs();
        let names: Vec<String> = self.world.nodes.keys().filter(|name| is_hub(name)).cloned().collect();
        for name in &names {
            let node = self.world.node(name);
            node.disk_ms = (0, 4);
            node.speed = LinkSpeed { delay_ms: (1, 20), bytes_a_ms: 0 };
            self.start(name);
        }
        self.restarts.retain(|row| !is_hub(&row.1));
        // The hub that was given the store last may be about to give it away again.
        self.world.run_for(8 * SERVED_MS);
        self.enrol_again();
        self.world.run_for(SERVED_MS);
    }
}
