//! Who has which log: what a hub does every second, what it takes and gives away, and what its writers want done.

use std::collections::VecDeque;

use engine::lease::{Step, plan};

use super::{LOOK_MS, Looking, READING_MS, Stir};
use crate::chance::Chance;
use crate::database::{Connection, Reply, Request};
use crate::world::{Happening, World};
use crate::writer::{Deed, Gone, Writer};

impl World {
    /// What a hub does every second.
    pub(super) fn look(&mut self, name: &str, life: u32) {
        self.stir(LOOK_MS, Stir::Look { hub: name.into(), life });
        self.mind_lease(name);
        let hub = &self.company_mut().hubs[name];
        let process = hub.process;
        let asked = match hub.looking {
            None => self.connect_database(name, None),
            Some(Looking { connection, asked: None }) => {
                (connection, self.ask(connection, Request::Look(process)))
            }
            Some(_) => return,
        };
        self.note_asked(name, asked);
    }

    pub(super) fn note_asked(&mut self, name: &str, (connection, number): (Connection, u64)) {
        if let Some(hub) = self.company_mut().hubs.get_mut(name) {
            hub.looking = Some(Looking { connection, asked: Some(number) });
        }
    }

    pub(super) fn looked(&mut self, name: &str, connection: Connection, reply: &Reply) {
        let Some(hub) = self.company_mut().hubs.get_mut(name) else { return };
        let process = hub.process;
        hub.looking = Some(Looking { connection, asked: None });
        match reply {
            Reply::Done => {
                let number = self.ask(connection, Request::Look(process));
                self.note_asked(name, (connection, number));
            }
            Reply::Tables(members, logs) => {
                hub.looked = (members.clone(), logs.clone());
                for step in plan(process, members, logs, &self.company_mut().warm.clone()) {
                    match step {
                        Step::Take(log) => self.take(name, log),
                        Step::HandOver { number, .. } => self.hand_over(name, number),
                    }
                }
            }
            Reply::Crossed | Reply::Refused => {}
            Reply::Cut | Reply::NoRow | Reply::Claimed { .. } => {
                hub.looking = None;
                self.ask(connection, Request::Close);
            }
        }
    }

    pub(super) fn take(&mut self, name: &str, log: u16) {
        let company = self.company_mut();
        let chance = Chance::new(company.chance.draw(), "writer");
        let hub = company.hubs.get_mut(name).expect("a hub of that name");
        // One that has it already may be away, and comes back by itself.
        if hub.writers.contains_key(&log) {
            return;
        }
        hub.writers.insert(log, Writer::new(log, hub.process, chance));
        self.drive(name, log, Vec::new());
    }

    pub(super) fn hand_over(&mut self, name: &str, log: u16) {
        let shard = self.company_mut().shard;
        let Some(writer) = self.writer(name, log) else { return };
        writer.release();
        if log == shard {
            self.keep_image(name);
            self.send_away(name);
            self.drop_replica(name);
        }
        self.drive(name, log, Vec::new());
    }

    /// A hub whose lease is over as far as it knows takes no tills in, until it has it again.
    pub(super) fn mind_lease(&mut self, name: &str) {
        let (now_ms, serves) = (self.now_ms, self.nodes[name].host.is_some());
        let shard = self.company_mut().shard;
        let open = serves
            && self.writer(name, shard).is_some_and(|writer| writer.keeps() && writer.has_lease(now_ms));
        let hub = self.company_mut().hubs.get_mut(name).expect("a hub of that name");
        let was = std::mem::replace(&mut hub.open, open);
        if was && !open {
            self.send_away(name);
        }
    }

    /// A hub's tills are told to go elsewhere; those that do not hear it notice the silence.
    pub(super) fn send_away(&mut self, name: &str) {
        if let Some(hub) = self.company_mut().hubs.get_mut(name) {
            hub.open = false;
        }
        let linked: Vec<String> = self.network.linked_to(name).map(str::to_owned).collect();
        let (open, closed): (Vec<_>, Vec<_>) =
            linked.into_iter().partition(|till| self.network.is_open(till, name));
        for till in open {
            self.cut(&till, name);
        }
        for till in closed {
            let Some(link) = self.network.between(&till, name) else { continue };
            self.stir(
                self.network.idle_ms,
                Stir::Silence { till: till.as_str().into(), hub: name.into(), link },
            );
        }
    }

    pub(super) fn drop_replica(&mut self, name: &str) {
        let node = self.node(name);
        (node.host, node.checkpoint_of) = (None, None);
        node.start += 1;
    }

    /// A hub does what one of its writers wants, and then what it wants next.
    pub(super) fn drive(&mut self, name: &str, log: u16, deeds: Vec<Deed>) {
        let mut deeds = VecDeque::from(deeds);
        loop {
            let now_ms = self.now_ms;
            let Some(writer) = self.writer(name, log) else { return };
            let Some(deed) = deeds.pop_front().or_else(|| writer.go_on(now_ms)) else { break };
            self.do_deed(name, log, deed);
        }
        let life = self.company_mut().hubs[name].life;
        if let Some(at_ms) = self.writer(name, log).and_then(|writer| writer.prolongs_ms()) {
            let at_ms = at_ms.max(self.now_ms + 1);
            self.put(at_ms, Happening::Stir(Stir::Rest { hub: name.into(), life, log }));
        }
    }

    pub(super) fn do_deed(&mut self, name: &str, log: u16, deed: Deed) {
        let life = self.company_mut().hubs[name].life;
        match deed {
            Deed::Connect => {
                let asked = self.connect_database(name, Some(log));
                if let Some(hub) = self.company_mut().hubs.get_mut(name) {
                    hub.connections.insert(log, asked);
                }
            }
            Deed::Ask(request) => {
                let Some((connection, _)) = self.company_mut().hubs[name].connections.get(&log).copied()
                else {
                    return;
                };
                let number = self.ask(connection, request);
                if let Some(hub) = self.company_mut().hubs.get_mut(name) {
                    hub.connections.insert(log, (connection, number));
                }
            }
            Deed::Close => {
                let hub = self.company_mut().hubs.get_mut(name);
                if let Some((connection, _)) = hub.and_then(|hub| hub.connections.remove(&log)) {
                    self.ask(connection, Request::Close);
                }
            }
            Deed::Rest(ms) => self.stir(ms, Stir::Rest { hub: name.into(), life, log }),
            Deed::Took => {
                let company = self.company_mut();
                company.count("log-taken");
                let reading_ms = company.chance.between(READING_MS.0, READING_MS.1);
                let fence = company.hubs[name].writers.get(&log).and_then(Writer::fence);
                if let Some(fence) = fence.filter(|_| log == company.shard) {
                    self.stir(reading_ms, Stir::Read { hub: name.into(), life, fence });
                }
            }
            Deed::Looked(true) => self.company_mut().count("commit-found"),
            Deed::Looked(false) => self.company_mut().count("commit-written-again"),
            Deed::Committed(lines) => self.committed(name, log, lines),
            Deed::Gone(why) => self.gone(name, log, why),
        }
    }

    pub(super) fn gone(&mut self, name: &str, log: u16, why: Gone) {
        let company = self.company_mut();
        let shard = company.shard;
        if let Some(hub) = company.hubs.get_mut(name) {
            hub.writers.remove(&log);
        }
        match why {
            Gone::TakenOver => company.count("log-taken-over"),
            Gone::Behind => company.behind = Some(format!("{name} finds less in log {log} than it was told")),
            Gone::Released => company.count("log-handed-over"),
            Gone::Beaten => {}
        }
        if log == shard && why != Gone::Released && self.nodes[name].host.is_some() {
            // First the replica: it has no log any more in which it could note that its tills go.
            self.drop_replica(name);
            self.send_away(name);
        }
    }
}
