//! Who was connected, for the hub's next start. A hub that dies says no goodbye, and a till whose link rests would notice ten
//! seconds later; the next start tells it at once. `callers` in the data directory has a line for each link: 16 hexadecimal
//! digits by which the till names the connection, a blank, and the till's address. It is a hint: not synced, gone when the
//! hub stops properly, and where it is missing, old or damaged the tills find out by themselves.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::storage::private;
use crate::storage::vault;
use crate::transport::{Endpoint, Linked};

/// Name of the file, and what its encrypted bytes are bound to.
const FILE: &str = "callers";
/// It is written so long after a change, with all other changes of that time.
const WRITE_AFTER: Duration = Duration::from_secs(2);
/// Longest file that is read: more links than a hub may have.
const BYTES_MAX: u64 = 1 << 20;

/// Tells the callers of the life before that their links are gone, and writes down those of this one until `stop`.
pub(super) async fn remember(dir: PathBuf, endpoint: Endpoint, mut stop: watch::Receiver<bool>) {
    let path = dir.join(FILE);
    let former = read(&dir, &path);
    let remembering = async {
        endpoint.end_former(&former).await;
        loop {
            endpoint.links_changed().await;
            sleep(WRITE_AFTER).await;
            let (dir, linked) = (dir.clone(), endpoint.linked());
            let written = tokio::task::spawn_blocking(move || write(&dir, &linked)).await;
            if let Ok(Err(error)) = written {
                tracing::debug!("who is connected is not written down: {error}");
            }
        }
    };
    tokio::select! {
        () = remembering => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let _ = fs::remove_file(path);
}

fn write(dir: &Path, linked: &[Linked]) -> io::Result<()> {
    let lines: String =
        linked.iter().map(|link| format!("{} {}\n", HEXLOWER.encode(&link.id), link.address)).collect();
    let bytes = vault::cover(dir, FILE, lines.as_bytes()).map_err(io::Error::other)?;
    let aside = dir.join("callers.new");
    let mut file = private::options().write(true).create(true).truncate(true).open(&aside)?;
    file.write_all(&bytes)?;
    drop(file);
    fs::rename(aside, dir.join(FILE))
}

/// As far as it can be read.
fn read(dir: &Path, path: &Path) -> Vec<Linked> {
    if fs::metadata(path).map_or(true, |facts| facts.len() > BYTES_MAX) {
        return Vec::new();
    }
    let bytes = fs::read(path).ok().and_then(|bytes| vault::uncover(dir, FILE, bytes).ok());
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Linked> {
    let (id, address) = text.split_once(' ')?;
    let id = HEXLOWER.decode(id.as_bytes()).ok()?.try_into().ok()?;
    Some(Linked { address: address.parse().ok()?, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_read_as_they_were_written_and_damage_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(read(dir.path(), &path).is_empty(), "a first start");
        let linked = ["127.0.0.1:7", "[::ffff:10.0.0.1]:8", "[2001:db8::1]:65535"]
            .map(|address| Linked { address: address.parse().unwrap(), id: [1, 2, 3, 4, 250, 0, 0, 9] });
        write(dir.path(), &linked).unwrap();
        assert_eq!(read(dir.path(), &path), linked);
        fs::write(&path, "0102 127.0.0.1:7\n\nx\n0102030405060708 nowhere\n0102030405060708 127.0.0.1:9\n01")
            .unwrap();
        assert_eq!(read(dir.path(), &path).len(), 1);
        fs::write(&path, [0xff, 0, 0xff]).unwrap();
        assert!(read(dir.path(), &path).is_empty());
        fs::write(&path, vec![b'\n'; 2 << 20]).unwrap();
        assert!(read(dir.path(), &path).is_empty());
    }
}
