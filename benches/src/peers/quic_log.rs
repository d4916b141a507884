//! Blocks of transactions, as they travel to the limit's hub, and the file for each till in which they lie there.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::Outcome;
use crate::workload::Transaction;

const ZSTD_LEVEL: i32 = 3;
/// A block's head: whether it is packed, how many transactions, how many bytes.
pub const HEAD_BYTES: usize = 9;
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// Transactions as they travel and lie on the disk.
#[derive(Clone)]
pub struct Block {
    /// How many transactions came before it.
    pub after: u64,
    /// Head and lines.
    pub bytes: Vec<u8>,
}

impl Block {
    /// Packs transactions.
    ///
    /// # Errors
    /// They are too large.
    pub fn new(after: u64, work: &[Transaction], zstd: bool) -> Outcome<Self> {
        let mut lines: String = work.iter().flat_map(|one| [one.json.as_str(), "\n"]).collect();
        lines.pop();
        let body =
            if zstd { zstd::bulk::compress(lines.as_bytes(), ZSTD_LEVEL)? } else { lines.into_bytes() };
        let mut bytes = vec![u8::from(zstd)];
        bytes.extend(u32::try_from(work.len())?.to_le_bytes());
        bytes.extend(u32::try_from(body.len())?.to_le_bytes());
        bytes.extend(body);
        Ok(Self { after, bytes })
    }
}

/// What a head says: packed, transactions, bytes.
///
/// # Errors
/// It says too many bytes.
pub fn head([packed, rest @ ..]: [u8; HEAD_BYTES]) -> Outcome<(bool, u32, usize)> {
    let [a, b, c, d, length @ ..] = rest;
    let length = u32::from_le_bytes(length) as usize;
    if length > BLOCK_BYTES_MAX {
        return Err(format!("a block of {length} bytes").into());
    }
    Ok((packed == 1, u32::from_le_bytes([a, b, c, d]), length))
}

/// The lines of a block.
///
/// # Errors
/// They cannot be unpacked.
pub fn lines(packed: bool, body: &[u8]) -> Outcome<Vec<u8>> {
    Ok(if packed { zstd::stream::decode_all(body)? } else { body.to_vec() })
}

/// A till's file at the hub.
pub struct Log {
    file: File,
    /// How many transactions are in it.
    pub count: u64,
}

impl Log {
    /// Opens it and counts what is there, by the heads.
    ///
    /// # Errors
    /// The disk refuses, or the file ends within a block.
    pub fn open(path: &Path) -> Outcome<Self> {
        let mut log =
            Self { file: OpenOptions::new().create(true).append(true).read(true).open(path)?, count: 0 };
        let all = std::fs::read(path)?;
        let mut rest = &all[..];
        while let Some((first, more)) = rest.split_first_chunk() {
            let (_, count, length) = head(*first)?;
            log.count += u64::from(count);
            rest = more.get(length..).ok_or("a file ends within a block")?;
        }
        Ok(log)
    }

    /// Unpacks a block, as whoever wants to look at it must, makes it durable and says how many there are now.
    ///
    /// # Errors
    /// The block is not whole, or the disk refuses.
    pub fn append(&mut self, block: &[u8]) -> Outcome<u64> {
        let (first, body) = block.split_first_chunk().ok_or("a block without a head")?;
        let (packed, count, _) = head(*first)?;
        let lines = lines(packed, body)?;
        if lines.split(|byte| *byte == b'\n').count() != count as usize {
            return Err("a block has other lines than it says".into());
        }
        self.file.write_all(block)?;
        self.file.sync_data()?;
        self.count += u64::from(count);
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::transactions;

    #[test]
    fn a_block_that_lost_a_line_is_refused_and_a_whole_one_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (path, work) = (dir.path().join("log"), transactions("till", 30, 1));
        for zstd in [false, true] {
            let mut log = Log::open(&path).unwrap();
            let before = log.count;
            let block = Block::new(before, &work, zstd).unwrap();
            assert_eq!(log.append(&block.bytes).unwrap(), before + 30);
            let mut lying = block.bytes;
            lying[1] += 1;
            assert!(log.append(&lying).is_err());
            assert_eq!(Log::open(&path).unwrap().count, before + 30);
        }
    }
}
