//! Where a scale run happens: a hub whose log may have been written before it first runs, and tills that join it through
//! its API, each as a process or as nothing but a directory that somebody else drives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use node::identity::Enrolment;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Outcome;
use crate::http::Http;
use crate::process::Node;

/// The store, where there is one.
pub const STORE: &str = "high-street";
/// A million records that nobody has judged take their time, and the first question waits for it.
pub const PATIENCE: Duration = Duration::from_secs(1_800);

/// A hub in a temporary directory, and where its tills are.
pub struct Place {
    program: PathBuf,
    /// The hub's process, if it runs.
    hub: Option<Node>,
    listen: String,
    /// What its owner logs in with.
    pub token: String,
    dir: TempDir,
}

impl Place {
    /// Founds the company. The hub does not run yet.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn found(program: &Path) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let token = node::hub::init(&dir.path().join("hub"), "Benches Ltd", "GBP", "Europe/London")?.token;
        Ok(Self { program: program.to_owned(), hub: None, listen: "127.0.0.1:0".to_owned(), token, dir })
    }

    /// The hub's directory.
    #[must_use]
    pub fn hub_dir(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    /// Starts the hub, at the address where the tills look for it.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_hub(&mut self) -> Outcome<()> {
        let arguments = ["hub", "run", "--listen", &self.listen, "--http", "127.0.0.1:0"];
        let hub = Node::start(&self.program, &self.hub_dir(), &arguments, None)?;
        self.listen = hub.quic.clone().ok_or("the hub did not say where it listens")?;
        self.hub = Some(hub);
        Ok(())
    }

    /// The hub's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn hub(&self) -> Outcome<&Node> {
        self.hub.as_ref().ok_or_else(|| "the hub does not run".into())
    }

    /// Stops the hub properly, or as a power cut does.
    ///
    /// # Errors
    /// It does not stop.
    pub fn end_hub(&mut self, clean: bool) -> Outcome<()> {
        end(self.hub.take(), clean)
    }

    /// A connection to the hub's API.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask(&self) -> Outcome<Http> {
        Ok(self.hub()?.connect()?.wait_up_to(PATIENCE)?)
    }

    /// Enrols a till and lets it join; where its directory is.
    ///
    /// # Errors
    /// The hub refuses.
    pub fn enrol(&self, http: &mut Http, store: &str, name: &str) -> Outcome<PathBuf> {
        let request = json!({"store": store, "terminal": name}).to_string();
        let answer = http.post("/v1/enrolments", "application/json", request.as_bytes())?.json()?;
        let dir = self.dir.path().join(name);
        node::terminal::join(&dir, answer["code"].as_str().unwrap_or_default(), None)?;
        Ok(dir)
    }

    /// Where the hub listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.listen
    }

    /// Records and open cases of all stores, as the hub counts them.
    ///
    /// # Errors
    /// The connection broke.
    pub fn counts(http: &mut Http) -> Outcome<(u64, u64)> {
        let stores = http.get("/v1/stores")?.json()?;
        let sum = |field: &str| {
            let of_store =
                |store: &Value| store[field].as_u64().ok_or(format!("the hub does not tell {field}"));
            stores.as_array().into_iter().flatten().map(of_store).sum::<Result<u64, _>>()
        };
        Ok((sum("records")?, sum("open_cases")?))
    }
}

/// A till that runs as a process.
pub struct Till {
    program: PathBuf,
    dir: PathBuf,
    node: Option<Node>,
}

impl Till {
    /// Starts one in a directory that has joined.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, dir: PathBuf) -> Outcome<Self> {
        let mut till = Self { program: program.to_owned(), dir, node: None };
        till.again()?;
        Ok(till)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start.
    pub fn again(&mut self) -> Outcome<()> {
        let arguments = ["terminal", "run", "--http", "127.0.0.1:0"];
        self.node = Some(Node::start(&self.program, &self.dir, &arguments, None)?);
        Ok(())
    }

    /// Stops it properly, or as a power cut does.
    ///
    /// # Errors
    /// It does not stop.
    pub fn end(&mut self, clean: bool) -> Outcome<()> {
        end(self.node.take(), clean)
    }

    /// A connection to its API.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask(&self) -> Outcome<Http> {
        Ok(self.node()?.connect()?.wait_up_to(PATIENCE)?)
    }

    /// Its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn node(&self) -> Outcome<&Node> {
        self.node.as_ref().ok_or_else(|| "the till does not run".into())
    }

    /// Lets it look for the hub elsewhere from its next start on.
    ///
    /// # Errors
    /// It never joined, or the disk refuses.
    pub fn look_at(&self, address: &str) -> Outcome<()> {
        let mut enrolment = Enrolment::load(&self.dir)?.ok_or("the till has not joined")?;
        enrolment.hub_address = address.to_owned();
        Ok(enrolment.save(&self.dir)?)
    }
}

fn end(node: Option<Node>, clean: bool) -> Outcome<()> {
    match node {
        Some(node) if clean => node.stop(),
        Some(node) => {
            node.kill();
            Ok(())
        }
        None => Ok(()),
    }
}
