//! Files that mean harm, or were harmed: each costs its refusal and nothing else.

use super::*;

#[test]
fn malformed_truncated_and_foreign_files_name_the_place_and_what_came_before_stands() {
    let good = transaction("", &retail(&[&goods("Sale", "A", "1", "5.00", "5.00"), &cash("5.00")], &[]));
    let cases: Vec<(Vec<u8>, usize, &str)> = vec![
        (
            format!("<POSLog>\n{good}\n<Transaction><a></b>").into_bytes(),
            1,
            "is no well-formed XML: ill-formed document: expected `</a>`, but `</b>` was found; get the file anew from the POS, at transaction 2 (line 3, column 17)",
        ),
        (
            format!("<POSLog>{good}<Transaction><RetailStoreID>9").into_bytes(),
            1,
            "the file ends in the middle of this transaction",
        ),
        (format!("<POSLog>{good}<Transaction><Retail").into_bytes(), 1, "tag not closed"),
        (format!("<POSLog>{good}").into_bytes(), 1, "the file ends without </POSLog>"),
        (b"".to_vec(), 0, "there is no <POSLog> in it"),
        (b"<html/>".to_vec(), 0, "its first element is <html>"),
        (b"{\"kind\":\"sale\"}".to_vec(), 0, "there is no <POSLog> in it"),
        (b"\xff\xfe<\0P\0".to_vec(), 0, "is in UTF-16"),
        (b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><POSLog/>".to_vec(), 0, "iconv -f \"ISO-8859-1\""),
        (
            b"<POSLog><Transaction><a>\xe9t\xe9</a></Transaction></POSLog>".to_vec(),
            0,
            "bytes that are no UTF-8",
        ),
        (b"\x1f\x8b\x08".to_vec(), 0, "is compressed"),
        (log(&"<a>".repeat(80)).into_bytes(), 0, "nested deeper than 64"),
        (log("<Transaction><a>&boom;</a></Transaction>").into_bytes(), 0, "&boom; is an entity"),
        (log("4242 4242 4242 4242</x>").into_bytes(), 0, "is no well-formed XML"),
    ];
    for (bytes, before, want) in cases {
        let (steps, broken) = steps_of(Cursor::new(bytes));
        let message = broken.expect(want).to_string();
        assert_eq!(steps.len(), before, "{want}");
        assert!(message.contains(want), "{want}: {message}");
    }
    let with_mark = [b"\xef\xbb\xbf".to_vec(), log(&good).into_bytes()].concat();
    assert_eq!(steps_of(Cursor::new(with_mark)).0.len(), 1, "UTF-8 with its mark is UTF-8");
}

#[test]
fn a_billion_laughs_are_refused_before_the_first() {
    let mut bomb = "<?xml version=\"1.0\"?><!DOCTYPE POSLog [<!ENTITY a \"ha\">".to_owned();
    for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e")] {
        bomb.push_str(&format!("<!ENTITY {name} \"{}\">", format!("&{of};").repeat(10)));
    }
    bomb.push_str("]><POSLog><Transaction><a>&f;</a></Transaction></POSLog>");
    let (steps, broken) = steps_of(Cursor::new(bomb.into_bytes()));
    assert!(steps.is_empty());
    assert!(broken.unwrap().problem.contains("has a DOCTYPE"));
}

#[test]
fn endless_text_tags_and_transactions_are_cut_off_at_their_limits() {
    let text = Cursor::new(b"<POSLog><Transaction><a>".to_vec()).chain(std::io::repeat(b'x'));
    assert!(steps_of(text).1.unwrap().problem.contains("of more than 1048576 bytes"));
    let tag = Cursor::new(b"<POSLog><Transaction><".to_vec()).chain(std::io::repeat(b'x'));
    assert!(steps_of(tag).1.unwrap().problem.contains("of more than 1048576 bytes"));
    let many: String = (0..100).map(|n| format!(" a{n}=\"1\"")).collect();
    let good = transaction("", "<ControlTransaction><NoSale/></ControlTransaction>");
    let large = format!("<Transaction>{}</Transaction>", "<a/>".repeat(70_000));
    let long = format!("<Transaction>{}</Transaction>", format!("<a>{}</a>", "x".repeat(1 << 19)).repeat(10));
    let attributes = format!("<Transaction><b{many}/></Transaction>");
    let xml = log(&format!("{large}{long}{attributes}{good}"));
    let (steps, broken) = steps_of(Cursor::new(xml.into_bytes()));
    assert_eq!(broken, None);
    let problems: Vec<String> = steps.iter().map(|(_, step)| format!("{step:?}")).collect();
    for (got, want) in problems.iter().zip([
        "more than 60000 elements",
        "more than 4194304 bytes",
        "more than 64 attributes",
        "NoSale",
    ]) {
        assert!(got.contains(want), "{want}: {got}");
    }
    assert_eq!(problems.len(), 4, "the rest go on");
}

/// The log of a shop that never closes: one transaction again and again.
struct Endless {
    transaction: Vec<u8>,
    at: usize,
    left: u64,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && self.at == 0 {
            return Ok(0);
        }
        let rest = &self.transaction[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at = (self.at + length) % self.transaction.len();
        if self.at == 0 {
            self.left = self.left.saturating_sub(1);
        }
        Ok(length)
    }
}

/// Peak memory of this process, in kilobytes, where the system tells.
fn peak_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}

#[test]
fn a_log_of_two_hundred_megabytes_takes_a_few() {
    let fat = retail(&[&goods("Sale", "A", "1", "5.00", "5.00"), &cash("5.00")], &[])
        .replace("<RetailTransaction>", &format!("<RetailTransaction><Note>{}</Note>", "n".repeat(40_000)));
    let transaction = transaction("", &fat).into_bytes();
    let times = (200 << 20) / transaction.len() as u64;
    let source = Cursor::new(b"<POSLog>".to_vec())
        .chain(Endless { transaction, at: 0, left: times })
        .chain(&b"</POSLog>"[..]);
    let before = peak_kb();
    let mut log = PosLog::new(source, assumed(), 1);
    let counter = log.counter();
    let mut sold = 0_u64;
    while let Some((_, step)) = log.step().unwrap() {
        sold += u64::from(matches!(step, Step::Transaction(_)));
    }
    assert_eq!(sold, times);
    assert!(counter.load(std::sync::atomic::Ordering::Relaxed) > 199 << 20);
    // Other tests of this process may run beside it and need some of their own.
    if let (Some(before), Some(after)) = (before, peak_kb()) {
        assert!(after - before < 64 << 10, "{before} kB before, {after} kB after");
    }
}
