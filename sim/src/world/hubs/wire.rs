//! The way from a hub to the database and back: what was sent first arrives first, also after its hub is gone or has lost its
//! patience; what cannot get through comes later.

use std::collections::VecDeque;

use super::{AGAIN_MS, DATABASE, FLUSH_MS, PATIENCE_MS, Stir, Wire};
use crate::database::{Connection, Reply, Request, Told};
use crate::world::{Happening, Name, World};

impl World {
    pub(super) fn connect_database(&mut self, hub: &str, log: Option<u16>) -> (Connection, u64) {
        let company = self.company_mut();
        company.made += 1;
        let (connection, life) = (company.made, company.hubs[hub].life);
        let (hub, up, down) = (Name::from(hub), VecDeque::new(), VecDeque::new());
        let wire = Wire { hub, life, asked: 0, log, up, up_ms: 0, down, down_ms: 0 };
        company.wires.insert(connection, wire);
        (connection, self.ask(connection, Request::Connect))
    }

    /// Sends a statement; gives its number.
    pub(super) fn ask(&mut self, connection: Connection, request: Request) -> u64 {
        let now_ms = self.now_ms;
        let company = self.company.as_mut().expect("a world of several hubs");
        let Some(wire) = company.wires.get_mut(&connection) else { return 0 };
        let (low_ms, high_ms) = self.nodes[&*wire.hub].disk_ms;
        wire.asked += 1;
        let number = wire.asked;
        let ends = matches!(request, Request::Close);
        wire.up.push_back((number, request));
        wire.up_ms = wire.up_ms.max(now_ms + company.chance.between(low_ms, high_ms));
        let at_ms = wire.up_ms;
        self.put(at_ms, Happening::Stir(Stir::Up(connection)));
        if !ends {
            self.stir(PATIENCE_MS, Stir::Patience { connection, number });
        }
        number
    }

    pub(super) fn reach_database(&mut self, connection: Connection) {
        let now_ms = self.now_ms;
        let company = self.company.as_mut().expect("a world of several hubs");
        let Some(wire) = company.wires.get_mut(&connection) else { return };
        if !self.network.gets_through(&wire.hub, DATABASE) {
            return self.stir(AGAIN_MS, Stir::Up(connection));
        }
        if let Some(until_ms) = company.database.hangs_until(now_ms) {
            return self.put(until_ms, Happening::Stir(Stir::Up(connection)));
        }
        let Some((number, request)) = wire.up.pop_front() else { return };
        let ends = matches!(request, Request::Close);
        let told = company.database.arrive(now_ms, connection, number, request);
        if ends {
            company.wires.remove(&connection);
        }
        self.tell(told);
    }

    pub(super) fn tell(&mut self, told: Vec<Told>) {
        for told in told {
            let company = self.company.as_mut().expect("a world of several hubs");
            match told {
                Told::Reply(connection, number, reply) => {
                    let Some(wire) = company.wires.get_mut(&connection) else { continue };
                    let (low_ms, high_ms) = self.nodes[&*wire.hub].disk_ms;
                    wire.down.push_back((number, reply));
                    wire.down_ms = wire.down_ms.max(self.now_ms + company.chance.between(low_ms, high_ms));
                    let at_ms = wire.down_ms;
                    self.put(at_ms, Happening::Stir(Stir::Down(connection)));
                }
                Told::Flush(connection, number) => {
                    let after_ms = company.chance.between(FLUSH_MS.0, FLUSH_MS.1);
                    self.stir(after_ms, Stir::Flushed(connection, number));
                }
                Told::Later(after_ms, connection, number) => {
                    self.stir(after_ms, Stir::Overdue(connection, number));
                }
            }
        }
    }

    pub(super) fn reach_hub(&mut self, connection: Connection) {
        let company = self.company.as_mut().expect("a world of several hubs");
        let Some(wire) = company.wires.get_mut(&connection) else { return };
        if !self.network.gets_through(DATABASE, &wire.hub) {
            return self.stir(AGAIN_MS, Stir::Down(connection));
        }
        let Some((number, reply)) = wire.down.pop_front() else { return };
        self.hear(connection, number, &reply);
    }

    pub(super) fn lose_patience(&mut self, connection: Connection, number: u64) {
        if self.hear(connection, number, &Reply::Cut) {
            self.ask(connection, Request::Close);
        }
    }

    /// A hub hears what became of a statement, if it still waits for that; gives whether it did.
    pub(super) fn hear(&mut self, connection: Connection, number: u64, reply: &Reply) -> bool {
        let company = self.company_mut();
        let Some(wire) = company.wires.get(&connection) else { return false };
        let (hub_name, log) = (wire.hub.clone(), wire.log);
        let Some(hub) = company.hubs.get_mut(&*hub_name).filter(|hub| hub.up && hub.life == wire.life) else {
            return false;
        };
        let Some(log) = log else {
            if hub
                .looking
                .is_none_or(|looking| (looking.connection, looking.asked) != (connection, Some(number)))
            {
                return false;
            }
            self.looked(&hub_name, connection, reply);
            return true;
        };
        if hub.connections.get(&log) != Some(&(connection, number)) {
            return false;
        }
        let Some(writer) = hub.writers.get_mut(&log) else { return false };
        let deeds = writer.hear(reply);
        self.drive(&hub_name, log, deeds);
        true
    }
}
