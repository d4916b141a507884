//! Hubs as processes: they start, are stopped or killed, and sleep; what is for one that sleeps waits until it wakes.

use engine::replica::Input;

use super::{Hub, LOOK_MS, Stir};
use crate::chance::Chance;
use crate::database::{Ailing, Connection, Request};
use crate::world::{Happening, Name, World};
use crate::writer::Writer;

impl World {
    /// A hub that is down starts, as a new process.
    pub fn start_hub(&mut self, name: &str) {
        let mut process = [0; 16];
        let company = self.company_mut();
        process[..8].copy_from_slice(&company.chance.draw().to_le_bytes());
        let first_ms = company.chance.between(0, LOOK_MS);
        let hub = company.hubs.get_mut(name).expect("a hub of that name");
        if hub.up {
            return;
        }
        *hub = Hub { process, life: hub.life + 1, up: true, ..Hub::default() };
        let life = hub.life;
        let mut draws = Chance::new(u64::from_le_bytes(process[..8].try_into().unwrap_or_default()), "warm");
        let logs = (0..company.database.logs()).filter(|_| draws.once_in(2));
        company.warm.extend(logs.map(|number| (process, number)));
        // Whoever was linked to the process before hears that this one knows nothing of it.
        self.unlink_all(name);
        self.changed();
        self.stir(first_ms, Stir::Look { hub: name.into(), life });
    }

    /// A hub's process is killed; or, if nobody is left to say so (`silent`), its machine loses power.
    pub fn kill_hub(&mut self, name: &str, silent: bool) {
        let company = self.company_mut();
        let hub = company.hubs.get_mut(name).expect("a hub of that name");
        if !hub.up {
            return;
        }
        (hub.up, hub.paused, hub.open, hub.looking) = (false, false, false, None);
        hub.held.clear();
        hub.writers.clear();
        hub.connections.clear();
        let life = hub.life;
        let own = |wire: &&Connection| {
            let wire = &company.wires[*wire];
            *wire.hub == *name && wire.life == life
        };
        let wires: Vec<Connection> = company.wires.keys().filter(own).copied().collect();
        for connection in wires.into_iter().filter(|_| !silent) {
            self.ask(connection, Request::Close);
        }
        self.drop_replica(name);
        self.silence(name);
        self.changed();
        self.moment(name, "down", 0, String::new);
    }

    /// A hub is stopped in an orderly way: it keeps what it judged, gives its leases back where nothing waits, and says
    /// good-bye.
    pub fn stop_hub(&mut self, name: &str) {
        self.keep_image(name);
        let hub = &self.company_mut().hubs[name];
        if !hub.runs() {
            return self.kill_hub(name, false);
        }
        let (process, looking) = (hub.process, hub.looking);
        let idle = |row: (&u16, &Writer)| {
            let (log, writer) = row;
            let (connection, _) = *hub.connections.get(log)?;
            let fence = writer.fence().filter(|_| writer.is_idle())?;
            Some((connection, Request::Release { log: *log, fence }))
        };
        let mut last: Vec<_> = hub.writers.iter().filter_map(idle).collect();
        last.extend(
            looking.filter(|it| it.asked.is_none()).map(|it| (it.connection, Request::Leave(process))),
        );
        for (connection, request) in last {
            self.ask(connection, request);
        }
        self.unlink_all(name);
        self.kill_hub(name, false);
    }

    /// A hub does nothing for a while, and does not know it.
    pub fn pause_hub(&mut self, name: &str, for_ms: i64) {
        let hub = self.company_mut().hubs.get_mut(name).expect("a hub of that name");
        if !hub.runs() {
            return;
        }
        hub.paused = true;
        let (hub, life) = (Name::from(name), hub.life);
        self.stir(for_ms, Stir::Wake { hub, life });
        self.silence(name);
        self.changed();
        self.moment(name, "down", 0, || "paused".to_owned());
    }

    /// Every hub that is paused goes on.
    pub fn wake_hubs(&mut self) {
        let company = self.company_mut();
        let paused = company.hubs.iter().filter(|row| row.1.paused);
        let paused: Vec<(String, u32)> = paused.map(|(name, hub)| (name.clone(), hub.life)).collect();
        for (name, life) in paused {
            self.wake_hub(&name, life);
        }
    }

    pub(super) fn wake_hub(&mut self, name: &str, life: u32) {
        let Some(hub) = self.company_mut().hubs.get_mut(name) else { return };
        if !hub.paused || hub.life != life {
            return;
        }
        hub.paused = false;
        for happening in std::mem::take(&mut hub.held) {
            self.put(self.now_ms, happening);
        }
        self.changed();
        self.moment(name, "up", 0, || "goes on".to_owned());
    }

    /// Something is wrong with the database for a while.
    pub fn ail(&mut self, how: Ailing, for_ms: i64, once_in: u64) {
        let now_ms = self.now_ms;
        let told = self.company_mut().database.ail(how, now_ms, for_ms, once_in);
        self.tell(told);
        self.changed();
    }

    /// The tills of a hub that says nothing any more notice it one by one.
    pub(super) fn silence(&mut self, name: &str) {
        let tills: Vec<Name> = self.network.linked_to(name).map(Name::from).collect();
        for till in tills {
            let Some(link) = self.network.between(&till, name) else { continue };
            let idle_ms = self.network.idle_ms;
            let after_ms = self.company_mut().chance.between(idle_ms / 2, idle_ms);
            self.stir(after_ms, Stir::Silence { till, hub: name.into(), link });
        }
    }

    /// What is for a hub that is paused waits until it goes on.
    pub(in crate::world) fn hold_back(&mut self, happening: Happening) -> Option<Happening> {
        let Some(company) = &mut self.company else { return Some(happening) };
        let of = match &happening {
            Happening::Arrive { to: hub, .. }
            | Happening::Wake { node: hub, .. }
            | Happening::Stir(
                Stir::Look { hub, .. }
                | Stir::Rest { hub, .. }
                | Stir::Read { hub, .. }
                | Stir::Give { hub, .. },
            ) => Some(hub),
            Happening::Stir(Stir::Down(connection) | Stir::Patience { connection, .. }) => company
                .wires
                .get(connection)
                .filter(|wire| company.hubs.get(&*wire.hub).is_some_and(|hub| hub.life == wire.life))
                .map(|wire| &wire.hub),
            _ => None,
        };
        let of = of.map(ToString::to_string);
        match of.and_then(|hub| company.hubs.get_mut(&hub)).filter(|hub| hub.paused) {
            Some(hub) => {
                hub.held.push(happening);
                None
            }
            None => Some(happening),
        }
    }

    /// The same of what a hub is given.
    pub(in crate::world) fn hold_input(&mut self, at: &str, input: Input) -> Option<Input> {
        let hub = self.company.as_mut().and_then(|company| company.hubs.get_mut(at));
        match hub.filter(|hub| hub.paused) {
            Some(hub) => {
                hub.held.push(Happening::Stir(Stir::Give { hub: at.into(), input }));
                None
            }
            None => Some(input),
        }
    }
}
