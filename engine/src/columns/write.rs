//! Values to columns.

use std::io::{self, Write};

use serde::{Serialize, ser};

use super::numbers;
use super::texts::Texts;
use super::{BYTES, ColumnError, Places, TUPLE_LIMIT, Written, put, refused};

/// How hard packing tries (zstd). With parts in blocks of their own more gains nothing.
const LEVEL: i32 = 1;
/// Shorter parts do not pay for a block of their own.
const PART_ALONE: usize = 256;

/// A column that is written.
enum Column {
    Numbers { signed: bool, numbers: Vec<u64> },
    Bytes(Vec<u8>),
    Texts(Texts),
}

struct Writer {
    places: Places,
    columns: Vec<Column>,
}

impl Writer {
    fn column(&mut self, place: usize, fresh: impl FnOnce() -> Column) -> &mut Column {
        let (at, new) = self.places.column(place);
        if new {
            self.columns.push(fresh());
        }
        &mut self.columns[at]
    }

    fn number(&mut self, place: usize, number: u64, signed: bool) -> Result<(), ColumnError> {
        let fresh = || Column::Numbers { signed, numbers: Vec::new() };
        let Column::Numbers { numbers, .. } = self.column(place, fresh) else {
            return refused("a place holds values of two kinds");
        };
        numbers.push(number);
        Ok(())
    }

    fn byte(&mut self, place: usize, byte: u8) -> Result<(), ColumnError> {
        let Column::Bytes(bytes) = self.column(place, || Column::Bytes(Vec::new())) else {
            return refused("a place holds values of two kinds");
        };
        bytes.push(byte);
        Ok(())
    }

    fn text(&mut self, place: usize, bytes: &[u8]) -> Result<(), ColumnError> {
        let Column::Texts(texts) = self.column(place, || Column::Texts(Texts::default())) else {
            return refused("a place holds values of two kinds");
        };
        texts.push(bytes);
        Ok(())
    }

    /// The bytes, and where in them long parts begin and end.
    fn finish(self) -> (Vec<u8>, Vec<usize>) {
        let mut written = Written::default();
        put(&mut written.head, self.columns.len() as u64);
        for column in self.columns {
            match column {
                Column::Numbers { signed, numbers } => numbers::write(&numbers, signed, &mut written),
                Column::Bytes(bytes) => {
                    written.head.push(BYTES);
                    put(&mut written.head, bytes.len() as u64);
                    written.parts.push(bytes);
                }
                Column::Texts(texts) => texts.write(&mut written),
            }
        }
        let (mut bytes, mut cuts) = (Vec::with_capacity(written.len()), Vec::new());
        bytes.extend(written.head);
        for part in written.parts {
            let from = bytes.len();
            bytes.extend_from_slice(&part);
            if part.len() >= PART_ALONE {
                cuts.extend([from, bytes.len()]);
            }
        }
        cuts.dedup();
        (bytes, cuts)
    }
}

/// A value as columns.
///
/// # Errors
/// The type has numbers of more than 64 bits, floating point, or does not know its own shape.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ColumnError> {
    written(value).map(|(bytes, _)| bytes)
}

/// Columns, compressed: one zstd frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of the columns.
    pub plain_len: usize,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// A value as columns, compressed. Every long part is a block of its own, with a code of its own for what it holds: digits
/// beside names beside numbers in one block would take a tenth more.
///
/// # Errors
/// As [`encode`].
pub fn pack<T: Serialize>(value: &T) -> Result<Packed, ColumnError> {
    let (plain, cuts) = written(value)?;
    let bytes = compress(&plain, &cuts).or_else(|error| refused(&format!("not compressed: {error}")))?;
    Ok(Packed { plain_len: plain.len(), bytes })
}

fn written<T: Serialize>(value: &T) -> Result<(Vec<u8>, Vec<usize>), ColumnError> {
    let mut writer = Writer { places: Places::new(), columns: Vec::new() };
    value.serialize(At { writer: &mut writer, place: 0 })?;
    Ok(writer.finish())
}

fn compress(plain: &[u8], cuts: &[usize]) -> io::Result<Vec<u8>> {
    let mut zstd = zstd::stream::Encoder::new(Vec::with_capacity(plain.len() / 2), LEVEL)?;
    zstd.set_pledged_src_size(Some(plain.len() as u64))?;
    let mut from = 0;
    for cut in cuts.iter().filter(|cut| **cut < plain.len()) {
        zstd.write_all(&plain[from..*cut])?;
        zstd.flush()?;
        from = *cut;
    }
    zstd.write_all(&plain[from..])?;
    zstd.finish()
}

/// Where the next value goes.
struct At<'a> {
    writer: &'a mut Writer,
    place: usize,
}

/// Fields, or elements, of one value.
struct Parts<'a> {
    writer: &'a mut Writer,
    place: usize,
    next: usize,
    /// All parts go to one place.
    alike: bool,
}

impl<'a> At<'a> {
    fn below(self, at: usize) -> Self {
        let place = self.writer.places.below(self.place, at);
        At { writer: self.writer, place }
    }

    fn parts(self, alike: bool) -> Parts<'a> {
        Parts { writer: self.writer, place: self.place, next: 0, alike }
    }
}

impl Parts<'_> {
    fn part<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), ColumnError> {
        let place = self.writer.places.below(self.place, self.next);
        self.next += usize::from(!self.alike);
        value.serialize(At { writer: self.writer, place })
    }
}

macro_rules! numbers {
    ($($name:ident: $number:ty, $signed:literal);+ $(;)?) => {
        $(fn $name(self, value: $number) -> Result<(), ColumnError> {
            #[allow(clippy::cast_lossless, clippy::cast_sign_loss, reason = "one line for every width")]
            self.writer.number(self.place, value as i64 as u64, $signed)
        })+
    };
}

impl<'a> ser::Serializer for At<'a> {
    type Ok = ();
    type Error = ColumnError;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        serialize_i8: i8, true;
        serialize_i16: i16, true;
        serialize_i32: i32, true;
        serialize_i64: i64, true;
        serialize_u16: u16, false;
        serialize_u32: u32, false;
        serialize_bool: bool, false;
    }

    fn serialize_u8(self, value: u8) -> Result<(), ColumnError> {
        self.writer.byte(self.place, value)
    }

    fn serialize_u64(self, value: u64) -> Result<(), ColumnError> {
        self.writer.number(self.place, value, false)
    }

    fn serialize_f32(self, _: f32) -> Result<(), ColumnError> {
        refused("floating point has no column")
    }

    fn serialize_f64(self, _: f64) -> Result<(), ColumnError> {
        refused("floating point has no column")
    }

    fn serialize_char(self, value: char) -> Result<(), ColumnError> {
        self.writer.number(self.place, u64::from(u32::from(value)), false)
    }

    fn serialize_str(self, value: &str) -> Result<(), ColumnError> {
        self.writer.text(self.place, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), ColumnError> {
        self.writer.text(self.place, value)
    }

    fn serialize_none(self) -> Result<(), ColumnError> {
        self.writer.number(self.place, 0, false)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), ColumnError> {
        self.writer.number(self.place, 1, false)?;
        value.serialize(self.below(0))
    }

    fn serialize_unit(self) -> Result<(), ColumnError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), ColumnError> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), ColumnError> {
        self.writer.number(self.place, u64::from(index), false)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), ColumnError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), ColumnError> {
        self.writer.number(self.place, u64::from(index), false)?;
        value.serialize(self.below(index as usize))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'a>, ColumnError> {
        let Some(len) = len else { return refused("a list must know its length") };
        self.writer.number(self.place, len as u64, false)?;
        Ok(self.parts(true))
    }

    fn serialize_tuple(self, len: usize) -> Result<Parts<'a>, ColumnError> {
        Ok(self.parts(len > TUPLE_LIMIT))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Parts<'a>, ColumnError> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Parts<'a>, ColumnError> {
        self.writer.number(self.place, u64::from(index), false)?;
        self.below(index as usize).serialize_tuple(len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'a>, ColumnError> {
        let Some(len) = len else { return refused("a map must know its length") };
        self.writer.number(self.place, len as u64, false)?;
        Ok(self.parts(false))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, ColumnError> {
        Ok(self.parts(false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, ColumnError> {
        self.writer.number(self.place, u64::from(index), false)?;
        Ok(self.below(index as usize).parts(false))
    }
}

macro_rules! parts {
    ($($trait:ident :: $name:ident $(($key:ty))?);+ $(;)?) => {
        $(impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = ColumnError;

            fn $name<T: ?Sized + Serialize>(&mut self, $(_: $key,)? value: &T) -> Result<(), ColumnError> {
                self.part(value)
            }

            fn end(self) -> Result<(), ColumnError> {
                Ok(())
            }
        })+
    };
}

parts! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
    SerializeStruct::serialize_field(&'static str);
    SerializeStructVariant::serialize_field(&'static str);
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = ColumnError;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), ColumnError> {
        self.next = 0;
        self.part(key)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), ColumnError> {
        self.part(value)
    }

    fn end(self) -> Result<(), ColumnError> {
        Ok(())
    }
}
