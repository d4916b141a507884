//! Columns to values. What is read may come from anybody: nothing that is claimed takes memory before it is there.

use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{
    BYTES, ColumnError, DELTA, Places, SIGNED, TEXTS, TUPLE_LIMIT, UNSIGNED, parts_of, refused, take, unfold,
};

/// A column that is read.
struct Source<'a> {
    kind: u8,
    /// What is left of it.
    parts: [&'a [u8]; 3],
    last: u64,
    last_text: Vec<u8>,
}

struct Reader<'a> {
    places: Places,
    columns: Vec<Source<'a>>,
    /// No list is longer: every element takes a byte somewhere.
    longest: u64,
    /// Bytes of text that may still be made.
    text_left: usize,
}

impl<'a> Reader<'a> {
    fn open(mut bytes: &'a [u8], text_limit: usize) -> Result<Self, ColumnError> {
        let longest = bytes.len() as u64;
        let count = take(&mut bytes)?;
        if count > longest {
            return refused("more columns than bytes");
        }
        let mut heads: Vec<(u8, [usize; 3])> = Vec::new();
        for _ in 0..count {
            let Some((kind, rest)) = bytes.split_first() else { return refused("a column has no kind") };
            bytes = rest;
            if *kind > TEXTS {
                return refused("a column is of no kind that is known here");
            }
            let mut lengths = [0; 3];
            for length in &mut lengths[..parts_of(*kind)] {
                *length = usize::try_from(take(&mut bytes)?).unwrap_or(usize::MAX);
            }
            heads.push((*kind, lengths));
        }
        let mut columns = Vec::with_capacity(heads.len());
        for (kind, lengths) in heads {
            let mut parts: [&[u8]; 3] = [&[]; 3];
            for (part, length) in parts.iter_mut().zip(lengths) {
                let Some((own, rest)) = bytes.split_at_checked(length) else {
                    return refused("a column is longer than what is there");
                };
                (*part, bytes) = (own, rest);
            }
            columns.push(Source { kind, parts, last: 0, last_text: Vec::new() });
        }
        if !bytes.is_empty() {
            return refused("something follows the columns");
        }
        Ok(Self { places: Places::new(), columns, longest, text_left: text_limit })
    }

    fn source(&mut self, place: usize) -> Result<&mut Source<'a>, ColumnError> {
        let (at, _) = self.places.column(place);
        match self.columns.get_mut(at) {
            Some(source) => Ok(source),
            None => refused("a column is missing"),
        }
    }

    fn number(&mut self, place: usize) -> Result<u64, ColumnError> {
        let source = self.source(place)?;
        let stored = match source.kind {
            UNSIGNED | SIGNED | DELTA => take(&mut source.parts[0])?,
            _ => return refused("a column does not hold numbers"),
        };
        let number = match source.kind {
            UNSIGNED => stored,
            SIGNED => unfold(stored).cast_unsigned(),
            _ => source.last.wrapping_add(unfold(stored).cast_unsigned()),
        };
        source.last = number;
        Ok(number)
    }

    fn byte(&mut self, place: usize) -> Result<u8, ColumnError> {
        let source = self.source(place)?;
        if source.kind != BYTES {
            return refused("a column does not hold bytes");
        }
        let Some((byte, rest)) = source.parts[0].split_first() else {
            return refused("a column ends too early");
        };
        source.parts[0] = rest;
        Ok(*byte)
    }

    fn text(&mut self, place: usize) -> Result<Vec<u8>, ColumnError> {
        let left = self.text_left;
        let source = self.source(place)?;
        if source.kind != TEXTS {
            return refused("a column does not hold texts");
        }
        let shared = usize::try_from(take(&mut source.parts[0])?).unwrap_or(usize::MAX);
        let length = usize::try_from(take(&mut source.parts[1])?).unwrap_or(usize::MAX);
        let Some((own, rest)) = source.parts[2].split_at_checked(length) else {
            return refused("a column ends too early");
        };
        if shared > source.last_text.len() {
            return refused("a text shares more than the one before it has");
        }
        source.parts[2] = rest;
        source.last_text.truncate(shared);
        source.last_text.extend_from_slice(own);
        let text = source.last_text.clone();
        let Some(left) = left.checked_sub(text.len()) else { return refused("the texts are too long") };
        self.text_left = left;
        Ok(text)
    }

    fn length(&mut self, place: usize) -> Result<usize, ColumnError> {
        let length = self.number(place)?;
        if length > self.longest {
            return refused("a list is longer than what is there");
        }
        usize::try_from(length).or_else(|_| refused("a list is longer than memory"))
    }

    fn is_used_up(&self) -> bool {
        let read = |source: &Source<'_>| source.parts.iter().all(|part| part.is_empty());
        self.places.columns == self.columns.len() && self.columns.iter().all(read)
    }
}

/// A value of columns that fill `bytes` exactly and whose texts take at most `text_limit` bytes.
///
/// # Errors
/// The bytes are no columns of this type, or over the limit.
pub fn decode<T: de::DeserializeOwned>(bytes: &[u8], text_limit: usize) -> Result<T, ColumnError> {
    let mut reader = Reader::open(bytes, text_limit)?;
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
