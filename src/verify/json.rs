//! Strict JSON for what strangers send: RFC 8259, and none of its freedoms.
//!
//! Duplicate members are refused at every level (RFC 7519 section 4 leaves the choice to us; two readers that choose
//! differently are a hole), names compared after unescaping. Depth is bounded, trailing bytes are refused, and so are
//! bytes that are not UTF-8, a byte order mark, lone surrogates and numbers that do not fit.
//!
//! The tree borrows from the text: a token's payload has some sixty strings, and nearly all of them are looked at once.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

/// Deeper than anything that an issuer writes; far less than what serde_json itself would take.
const MAX_DEPTH: u8 = 32;
/// Up to so many members, a look at each pair finds a name twice soonest; beyond, that would be a sink for our time.
const FEW: usize = 48;

#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Object<'a>),
}

/// Members in the order of the text, no name twice.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// Reads one JSON object that is all of `bytes`.
pub(super) fn object(bytes: &[u8]) -> Option<Object<'_>> {
    match read(bytes, Strict { left: MAX_DEPTH })? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The elements of a list that is a member of such an object, each as it stands in the text: for a list that must
/// survive a bad element, a number or a string among them that no reader takes.
pub(super) fn elements<'a>(bytes: &'a [u8], member: &'static str) -> Option<Vec<&'a [u8]>> {
    let list = read(bytes, ListIn(member))?;
    Some(list.into_iter().map(|raw| raw.get().as_bytes()).collect())
}

fn read<'a, S: DeserializeSeed<'a>>(bytes: &'a [u8], seed: S) -> Option<S::Value> {
    // Once for the whole: serde_json would look at each string by itself.
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

impl<'a> Value<'a> {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A copy that lives by itself.
    pub(super) fn to_owned(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::Text(text) => serde_json::Value::String(text.clone().into_owned()),
            Value::List(list) => list.iter().map(Value::to_owned).collect(),
            Value::Object(object) => object
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}

impl<'a> Object<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let mut members = self.0.iter();
        members.find_map(|(named, value)| (named == name).then_some(value))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// By its place in [`Object::iter`].
    pub(super) fn nth(&self, place: usize) -> Option<&Value<'a>> {
        self.0.get(place).map(|(_, value)| value)
    }

    fn has_a_name_twice(&self) -> bool {
        if self.0.len() > FEW {
            let mut names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
            names.sort_unstable();
            return names.windows(2).any(|pair| pair[0] == pair[1]);
        }
        // A bit for each name, so that most need no comparison at all.
        let mut seen = 0u64;
        self.0.iter().enumerate().any(|(place, (name, _))| {
            let bytes = name.as_bytes();
            let ends = [bytes.first(), bytes.last()].map(|end| end.copied().unwrap_or(0));
            let mixed = bytes.len() ^ usize::from(ends[0]) ^ (usize::from(ends[1]) << 2);
            let bit = 1 << (mixed % 64);
            let maybe = seen & bit != 0;
            seen |= bit;
            maybe && self.0[..place].iter().any(|(other, _)| other == name)
        })
    }
}

#[derive(Clone, Copy)]
struct Strict {
    /// The levels that are still allowed.
    left: u8,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| E::custom("too deep"))?;
        Ok(Strict { left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not finite"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(deeper)? {
            list.push(element);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let deeper = self.deeper()?;
        // A payload of Keycloak's has some twenty members; what lies deeper has a few.
        let outermost = self.left == MAX_DEPTH;
        let mut object = Object(Vec::with_capacity(if outermost { 24 } else { 2 }));
        while let Some(name) = members.next_key_seed(Name)? {
            object.0.push((name, members.next_value_seed(deeper)?));
        }
        match object.has_a_name_twice() {
            true => Err(A::Error::custom("a name twice")),
            false => Ok(Value::Object(object)),
        }
    }
}

/// The list that one member of an object holds. The others are skipped, which serde_json does with a loop.
struct ListIn(&'static str);

impl<'de> DeserializeSeed<'de> for ListIn {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListIn {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut list = None;
        while let Some(name) = members.next_key_seed(Name)? {
            if name != self.0 {
                members.next_value::<IgnoredAny>()?;
            } else if list.replace(members.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(self.0));
            }
        }
        list.ok_or_else(|| A::Error::missing_field(self.0))
    }
}

/// A member's name.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_twice_is_found_among_few_and_among_many() {
        let with = |count: usize, more: &str| {
            let members: Vec<_> = (0..count).map(|n| format!("\"m{n}\":{n}")).collect();
            format!("{{{}{more}}}", members.join(","))
        };
        for count in [1, 2, FEW - 1, FEW, FEW + 1, 1000] {
            let once = with(count, "");
            assert_eq!(object(once.as_bytes()).map(|o| o.0.len()), Some(count));
            for twice in [r#","m0":1"#, r#","\u006d0":1"#] {
                assert_eq!(object(with(count, twice).as_bytes()), None, "{count}");
            }
        }
        // Two empty names are a name twice as well.
        assert_eq!(object(br#"{"":1,"":2}"#), None);
    }

    #[test]
    fn a_copy_says_the_same() {
        let text = r#"{"a":[1,-2,0.5,"x\n",null,true],"b":{"c":{}}}"#;
        let read = object(text.as_bytes()).map(Value::Object).expect("JSON");
        assert_eq!(read.to_owned().to_string(), text);
    }
}
