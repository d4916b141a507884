//! The one file with quick-xml: pulls one transaction after the other out of a POSLog of any size. Refuses every
//! DOCTYPE and expands no entity but those of XML itself. It knows where transactions begin and end, not what they say.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use engine::transaction::mask_card_numbers;
use quick_xml::errors::{Error, SyntaxError};
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::element::{Attributes, Element};
use super::guard::{EVENT_BYTES, Guard};
use super::{Broken, Place};

/// Most bytes of XML in one transaction. Two thousand lines of a real log take less.
const TRANSACTION_BYTES: u64 = 4 << 20;
/// Most elements in one transaction.
const TRANSACTION_ELEMENTS: usize = 60_000;
/// Deepest nesting, from the root of the document.
const DEPTH: usize = 64;
/// Most attributes of an element.
const ATTRIBUTES: usize = 64;
/// What is kept of a buffer that one long text has made large.
const BUFFER_KEPT_BYTES: usize = 64 << 10;
/// Name of the document's root.
const ROOT: &str = "POSLog";
/// Name of what is pulled out.
const TRANSACTION: &str = "Transaction";

/// A transaction of the document, or why it was not kept.
pub(super) type Found = (Place, Result<Element, String>);

/// Pulls transactions out of a document.
pub(super) struct Transactions<R: Read> {
    reader: Reader<Guard<R>>,
    buffer: Vec<u8>,
    /// Open elements.
    depth: usize,
    found: u64,
    /// Transactions before this number are not kept.
    from: u64,
    making: Option<Making>,
    /// Whether the first bytes, and the root, were seen.
    started: bool,
    rooted: bool,
}

/// A transaction in the making.
struct Making {
    place: Place,
    /// Depth at which the transaction itself stands.
    base: usize,
    /// Open elements, the transaction first.
    open: Vec<Element>,
    kept: bool,
    elements: usize,
    problem: Option<String>,
}

/// What an event comes to.
enum Next {
    More,
    Found(Found),
    End,
}

impl<R: Read> Transactions<R> {
    /// Reads from a source; transactions before number `from` are only counted.
    pub(super) fn new(source: R, from: u64) -> Self {
        Self {
            reader: Reader::from_reader(Guard::new(source)),
            buffer: Vec::new(),
            depth: 0,
            found: 0,
            from,
            making: None,
            started: false,
            rooted: false,
        }
    }

    /// Bytes of the source read so far.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        self.reader.get_ref().counter()
    }

    /// The next transaction; none at the end of the document.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Broken> {
        loop {
            let (line, column) = self.reader.get_mut().begin_event();
            let transaction = self.making.as_ref().map(|_| self.found);
            let place = Place { line, column: Some(column), transaction };
            if !self.started {
                self.started = true;
                self.check_beginning(place)?;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let next = match self.reader.read_event_into(&mut buffer) {
                Ok(event) => self.take(place, event).map_err(|problem| broken(place, &problem))?,
                Err(error) => return Err(why(place, &error, self.reader.get_ref().overrun())),
            };
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_BYTES);
            self.buffer = buffer;
            match next {
                Next::More => {}
                Next::Found(found) => return Ok(Some(found)),
                Next::End => return Ok(None),
            }
        }
    }

    fn check_beginning(&mut self, place: Place) -> Result<(), Broken> {
        let first = self.reader.get_mut().peek().map_err(|error| unreadable(place, &error))?;
        foreign_encoding(first).map_or(Ok(()), |problem| Err(Broken { place, problem }))
    }

    fn take(&mut self, place: Place, event: Event<'_>) -> Result<Next, String> {
        match event {
            Event::Start(start) => {
                self.open(place, &start)?;
                self.keep_within_limit();
            }
            Event::Empty(start) => {
                self.open(place, &start)?;
                return Ok(self.close());
            }
            Event::End(_) => return Ok(self.close()),
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(text) => self.text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let character = character(&reference).ok_or_else(|| {
                    let name: String = reference.xml10_content().chars().take(40).collect();
                    format!("&{name}; is an entity of the document's own; only those of XML itself are read")
                })?;
                self.text(character.encode_utf8(&mut [0; 4]));
            }
            Event::DocType(_) => return Err(DOCTYPE.to_owned()),
            Event::Decl(declaration) => check_declaration(&declaration)?,
            Event::Eof => return self.end(),
            Event::Comment(_) | Event::PI(_) => {}
        }
        Ok(Next::More)
    }

    fn open(&mut self, place: Place, start: &BytesStart<'_>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("elements are nested deeper than {DEPTH}: no POS writes such a log"));
        }
        let name = start.local_name();
        let name = name.as_ref();
        if self.depth == 1 && name != ROOT {
            let shown: String = name.chars().take(40).collect();
            return Err(format!("is no POSLog: its first element is <{shown}>, not <{ROOT}>"));
        }
        self.rooted = true;
        if let Some(making) = &mut self.making {
            making.open(start, name);
        } else if name == TRANSACTION {
            self.found += 1;
            let place = Place { transaction: Some(self.found), ..place };
            let mut making = Making {
                place,
                base: self.depth,
                open: Vec::new(),
                kept: self.found >= self.from,
                elements: 0,
                problem: None,
            };
            making.open(start, name);
            self.making = Some(making);
            self.reader.get_mut().begin_transaction();
        }
        Ok(())
    }

    /// Ends the innermost element; gives the transaction if it was that and is kept.
    fn close(&mut self) -> Next {
        self.depth = self.depth.saturating_sub(1);
        let Some(making) = &mut self.making else { return Next::More };
        let whole = making.close();
        if self.depth >= making.base {
            return Next::More;
        }
        let (place, problem) = (making.place, making.problem.take());
        self.making = None;
        match (problem, whole) {
            (Some(problem), _) => Next::Found((place, Err(problem))),
            (None, Some(element)) => Next::Found((place, Ok(element))),
            (None, None) => Next::More,
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(making) = &mut self.making {
            making.text(text);
        }
        self.keep_within_limit();
    }

    fn keep_within_limit(&mut self) {
        let bytes = self.reader.get_ref().transaction_bytes();
        if let Some(making) = self.making.as_mut().filter(|making| making.kept && bytes > TRANSACTION_BYTES) {
            making.give_up(format!("takes more than {TRANSACTION_BYTES} bytes of XML; the limit is that"));
        }
    }

    fn end(&self) -> Result<Next, String> {
        if self.making.is_some() {
            return Err(
                "the file ends in the middle of this transaction: get the whole file and import it again"
                    .to_owned(),
            );
        }
        if self.depth > 0 {
            return Err(format!(
                "the file ends without </{ROOT}>: it was cut off; get the whole file and import it again"
            ));
        }
        if self.rooted { Ok(Next::End) } else { Err(format!("is no POSLog: there is no <{ROOT}> in it")) }
    }
}

fn broken(place: Place, problem: &str) -> Broken {
    Broken { place, problem: mask_card_numbers(problem) }
}

impl Making {
    fn open(&mut self, start: &BytesStart<'_>, name: &str) {
        if !self.kept {
            return;
        }
        self.elements += 1;
        if self.elements > TRANSACTION_ELEMENTS {
            self.give_up(format!("holds more than {TRANSACTION_ELEMENTS} elements; the limit is that"));
            return;
        }
        match attributes(start) {
            Ok(attributes) => {
                self.open.push(Element { name: name.into(), attributes, ..Element::default() });
            }
            Err(problem) => self.give_up(format!("<{name}>: {problem}")),
        }
    }

    /// Ends the innermost open element; gives the transaction if that was it.
    fn close(&mut self) -> Option<Element> {
        let mut closed = self.open.pop()?;
        closed.text = closed.text.trim().to_owned();
        closed.children.shrink_to_fit();
        match self.open.last_mut() {
            Some(parent) => {
                parent.children.push(closed);
                None
            }
            None => Some(closed),
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(open) = self.open.last_mut() {
            open.text.push_str(text);
        }
    }

    /// Keeps nothing more of the transaction.
    fn give_up(&mut self, problem: String) {
        self.open = Vec::new();
        self.kept = false;
        self.problem.get_or_insert(problem);
    }
}

fn check_declaration(declaration: &BytesDecl<'_>) -> Result<(), String> {
    let Some(Ok(encoding)) = declaration.encoding() else { return Ok(()) };
    if ["utf-8", "utf8", "us-ascii"].contains(&encoding.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let name: String = encoding.chars().take(40).collect();
    Err(format!(
        "is in the encoding {name:?}; give UTF-8: iconv -f {name:?} -t UTF-8, and encoding=\"UTF-8\" in its first line"
    ))
}

const DOCTYPE: &str = "has a DOCTYPE, which a log of transactions needs not and which can hide other files or endless text; remove it";

fn attributes(start: &BytesStart<'_>) -> Result<Attributes, String> {
    let mut kept = Attributes::new();
    // The parser's own search for repeats takes quadratic time over any number of them.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if kept.len() == ATTRIBUTES {
            return Err(format!("has more than {ATTRIBUTES} attributes"));
        }
        let name = attribute.key.local_name().as_ref().to_owned();
        if attribute.key.as_ref().starts_with("xmlns") {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_err(|error| format!("attribute {name}: {error}"))?;
        if kept.iter().any(|(known, _)| **known == *name) {
            return Err(format!("has two attributes {name}"));
        }
        kept.push((name.into(), value.as_ref().into()));
    }
    Ok(kept)
}

/// What a reference in a text stands for, if XML itself says so.
fn character(reference: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return Some(character);
    }
    match reference.xml10_content().as_ref() {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

/// Bytes that begin no UTF-8 text.
fn foreign_encoding(first: &[u8]) -> Option<String> {
    let iconv =
        |name: &str| Some(format!("is in {name}, not in UTF-8: convert it first: iconv -f {name} -t UTF-8"));
    match first {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => iconv("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..] => iconv("UTF-16"),
        [0x1f, 0x8b, ..] => {
            Some("is compressed: gunzip -c FILE | tillsync import --format poslog -".to_owned())
        }
        [b'P', b'K', 3, 4, ..] => {
            Some("is compressed: unzip -p FILE | tillsync import --format poslog -".to_owned())
        }
        _ => None,
    }
}

fn unreadable(place: Place, error: &io::Error) -> Broken {
    Broken { place, problem: format!("cannot read on: {error}") }
}

/// What the parser stumbled over, in words that name a way out.
fn why(place: Place, error: &Error, overrun: bool) -> Broken {
    let problem = match error {
        _ if overrun => format!("a tag or text of more than {EVENT_BYTES} bytes: no POS writes such a log"),
        Error::Io(error) => return unreadable(place, error),
        Error::Syntax(SyntaxError::UnclosedDoctype) => DOCTYPE.to_owned(),
        Error::Encoding(_) => {
            "bytes that are no UTF-8: if the log is in another encoding, convert it first, such as iconv -f WINDOWS-1252 -t UTF-8"
                .to_owned()
        }
        error => {
            let shown: String = error.to_string().chars().take(200).collect();
            format!("is no well-formed XML: {shown}; get the file anew from the POS")
        }
    };
    Broken { place, problem: mask_card_numbers(&problem) }
}
