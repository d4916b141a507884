//! Columns to values. What is read may come from anybody: nothing that is claimed takes memory before it is there.

use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::numbers::Numbers;
use super::texts::TextsRead;
use super::{BYTES, ColumnError, PATTERNS, Places, TEXTS, TUPLE_LIMIT, refused, take};

/// What an entry of a map takes beside its key, about.
const ENTRY_BYTES: usize = 32;

/// A column that is read.
enum Source<'a> {
    Numbers(Numbers<'a>),
    Bytes { length: usize, left: &'a [u8] },
    Texts(TextsRead<'a>),
}

impl<'a> Source<'a> {
    /// Takes its head.
    fn open(heads: &mut &'a [u8]) -> Result<Self, ColumnError> {
        let Some((kind, rest)) = heads.split_first() else { return refused("a column has no kind") };
        *heads = rest;
        match *kind {
            BYTES => {
                let length = usize::try_from(take(heads)?).unwrap_or(usize::MAX);
                Ok(Self::Bytes { length, left: &[] })
            }
            TEXTS | PATTERNS => TextsRead::open(*kind, heads).map(Self::Texts),
            kind => Numbers::open(kind, heads).map(Self::Numbers),
        }
    }

    /// Takes its parts.
    fn fill(&mut self, parts: &mut &'a [u8]) -> Result<(), ColumnError> {
        match self {
            Self::Numbers(numbers) => numbers.fill(parts),
            Self::Bytes { length, left } => {
                let Some((own, rest)) = parts.split_at_checked(*length) else {
                    return refused("a column is longer than what is there");
                };
                (*left, *parts) = (own, rest);
                Ok(())
            }
            Self::Texts(texts) => texts.fill(parts),
        }
    }

    fn is_used_up(&self) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.is_used_up(),
            Self::Bytes { left, .. } => left.is_empty(),
            Self::Texts(texts) => texts.is_used_up(),
        }
    }
}

struct Reader<'a> {
    places: Places,
    columns: Vec<Source<'a>>,
    /// Bytes of texts and elements that may still be made: neither need take any in a column.
    memory_left: usize,
}

impl<'a> Reader<'a> {
    fn open(mut bytes: &'a [u8], memory_limit: usize) -> Result<Self, ColumnError> {
        let count = take(&mut bytes)?;
        if count > bytes.len() as u64 {
            return refused("more columns than bytes");
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(Source::open(&mut bytes)?);
        }
        for column in &mut columns {
            column.fill(&mut bytes)?;
        }
        if !bytes.is_empty() {
            return refused("something follows the columns");
        }
        Ok(Self { places: Places::new(), columns, memory_left: memory_limit })
    }

    fn source(&mut self, place: usize) -> Result<&mut Source<'a>, ColumnError> {
        let (at, _) = self.places.column(place);
        match self.columns.get_mut(at) {
            Some(source) => Ok(source),
            None => refused("a column is missing"),
        }
    }

    fn number(&mut self, place: usize) -> Result<u64, ColumnError> {
        match self.source(place)? {
            Source::Numbers(numbers) => numbers.next(),
            _ => refused("a column does not hold numbers"),
        }
    }

    fn byte(&mut self, place: usize) -> Result<u8, ColumnError> {
        let Source::Bytes { left, .. } = self.source(place)? else {
            return refused("a column does not hold bytes");
        };
        let Some((byte, rest)) = left.split_first() else {
            return refused("a column ends too early");
        };
        *left = rest;
        Ok(*byte)
    }

    fn text(&mut self, place: usize) -> Result<Vec<u8>, ColumnError> {
        let Source::Texts(texts) = self.source(place)? else {
            return refused("a column does not hold texts");
        };
        let text = texts.next()?;
        self.claim(text.len())?;
        Ok(text)
    }

    fn length(&mut self, place: usize) -> Result<usize, ColumnError> {
        // Elements are counted as they come: a length alone takes nothing.
        usize::try_from(self.number(place)?).or_else(|_| refused("a list is longer than memory"))
    }

    fn claim(&mut self, bytes: usize) -> Result<(), ColumnError> {
        let Some(left) = self.memory_left.checked_sub(bytes) else {
            return refused("the values take too much memory");
        };
        self.memory_left = left;
        Ok(())
    }

    fn is_used_up(&self) -> bool {
        self.places.columns == self.columns.len() && self.columns.iter().all(Source::is_used_up)
    }
}

/// A value of columns that fill `bytes` exactly and whose texts and elements take at most `memory_limit` bytes.
///
/// # Errors
/// The bytes are no columns of this type, or over the limit.
pub fn decode<T: de::DeserializeOwned>(bytes: &[u8], memory_limit: usize) -> Result<T, ColumnError> {
    let mut reader = Reader::open(bytes, memory_limit)?;
    let value = T::deserialize(From { reader: &mut reader, place: 0 })?;
    if reader.is_used_up() { Ok(value) } else { refused("a column holds more than was read") }
}

/// Where the next value comes from.
struct From<'a, 'b> {
    reader: &'a mut Reader<'b>,
    place: usize,
}

/// Parts of one value.
struct PartsOf<'a, 'b> {
    reader: &'a mut Reader<'b>,
    place: usize,
    next: usize,
    left: usize,
    alike: bool,
}

impl<'a, 'b> From<'a, 'b> {
    fn parts(self, count: usize, alike: bool) -> PartsOf<'a, 'b> {
        PartsOf { reader: self.reader, place: self.place, next: 0, left: count, alike }
    }

    fn below(self, at: usize) -> Self {
        let place = self.reader.places.below(self.place, at);
        From { reader: self.reader, place }
    }

    fn narrow<N: TryFrom<i64>>(self) -> Result<N, ColumnError> {
        let number = self.reader.number(self.place)?.cast_signed();
        N::try_from(number).or_else(|_| refused("a number is out of range"))
    }
}

macro_rules! narrow {
    ($($name:ident: $visit:ident);+ $(;)?) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
            visitor.$visit(self.narrow()?)
        })+
    };
}

impl<'de> de::Deserializer<'de> for From<'_, '_> {
    type Error = ColumnError;

    fn is_human_readable(&self) -> bool {
        false
    }

    narrow! {
        deserialize_i8: visit_i8;
        deserialize_i16: visit_i16;
        deserialize_i32: visit_i32;
        deserialize_i64: visit_i64;
        deserialize_u16: visit_u16;
        deserialize_u32: visit_u32;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ColumnError> {
        refused("columns do not tell what they hold")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        match self.reader.number(self.place)? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => refused("neither true nor false"),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        visitor.visit_u8(self.reader.byte(self.place)?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        visitor.visit_u64(self.reader.number(self.place)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ColumnError> {
        refused("floating point has no column")
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ColumnError> {
        refused("floating point has no column")
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        let number: u32 = self.narrow()?;
        match char::from_u32(number) {
            Some(character) => visitor.visit_char(character),
            None => refused("no character"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        match String::from_utf8(self.reader.text(self.place)?) {
            Ok(text) => visitor.visit_string(text),
            Err(_) => refused("a text is not UTF-8"),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        visitor.visit_byte_buf(self.reader.text(self.place)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        match self.reader.number(self.place)? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self.below(0)),
            _ => refused("neither there nor not"),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        let length = self.reader.length(self.place)?;
        visitor.visit_seq(self.parts(length, true))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ColumnError> {
        visitor.visit_seq(self.parts(len, len > TUPLE_LIMIT))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        let length = self.reader.length(self.place)?;
        visitor.visit_map(self.parts(length, false))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_seq(self.parts(fields.len(), false))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ColumnError> {
        refused("columns have no names")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ColumnError> {
        refused("columns do not tell what they hold")
    }
}

impl<'de> SeqAccess<'de> for PartsOf<'_, '_> {
    type Error = ColumnError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ColumnError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.alike {
            self.reader.claim(size_of::<S::Value>().max(1))?;
        }
        let place = self.reader.places.below(self.place, self.next);
        self.next += usize::from(!self.alike);
        seed.deserialize(From { reader: self.reader, place }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // Room is made as elements come: a length alone proves nothing.
        Some(self.left.min(64))
    }
}

impl<'de> MapAccess<'de> for PartsOf<'_, '_> {
    type Error = ColumnError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ColumnError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.reader.claim(ENTRY_BYTES + size_of::<S::Value>())?;
        let place = self.reader.places.below(self.place, 0);
        seed.deserialize(From { reader: self.reader, place }).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ColumnError> {
        let place = self.reader.places.below(self.place, 1);
        seed.deserialize(From { reader: self.reader, place })
    }
}

impl<'de, 'a, 'b> EnumAccess<'de> for From<'a, 'b> {
    type Error = ColumnError;
    type Variant = From<'a, 'b>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), ColumnError> {
        let index = self.reader.number(self.place)?;
        let Ok(index) = u32::try_from(index) else { return refused("no such variant") };
        // A lying index must be refused before it claims places.
        let variant = seed.deserialize(IntoDeserializer::<ColumnError>::into_deserializer(index))?;
        Ok((variant, self.below(index as usize)))
    }
}

impl<'de> VariantAccess<'de> for From<'_, '_> {
    type Error = ColumnError;

    fn unit_variant(self) -> Result<(), ColumnError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ColumnError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ColumnError> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_seq(self.parts(fields.len(), false))
    }
}
