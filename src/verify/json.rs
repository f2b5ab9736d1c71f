//! Strict JSON for what strangers send: RFC 8259, and none of its freedoms.
//!
//! Duplicate members are refused at every level (RFC 7519 section 4 leaves the choice to us; two readers that choose
//! differently are a hole), names compared after unescaping. Depth is bounded, trailing bytes are refused, and so are
//! bytes that are not UTF-8, a byte order mark, lone surrogates and numbers that do not fit.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deeper than anything that an issuer writes; far less than what serde_json itself would take.
const MAX_DEPTH: u8 = 32;

/// Reads one JSON object that is all of `bytes`.
pub(super) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let refuse = Strict {
        left: MAX_DEPTH,
        forgiving: false,
    };
    read(bytes, refuse)
}

/// The same, but a member that is too deep or has a name twice becomes `null` instead of costing the whole: for lists
/// that must survive one bad entry.
pub(super) fn object_of_any(bytes: &[u8]) -> Option<Map<String, Value>> {
    let forgive = Strict {
        left: MAX_DEPTH,
        forgiving: true,
    };
    read(bytes, forgive)
}

fn read(bytes: &[u8], strict: Strict) -> Option<Map<String, Value>> {
    // Once for the whole: serde_json would look at each string by itself.
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = strict.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Strict {
    /// The levels that are still allowed.
    left: u8,
    forgiving: bool,
}

impl Strict {
    fn deeper(self) -> Option<Self> {
        let left = self.left.checked_sub(1)?;
        Some(Strict { left, ..self })
    }

    fn bad<E: Error>(self, what: &str) -> Result<Value, E> {
        match self.forgiving {
            true => Ok(Value::Null),
            false => Err(E::custom(what)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let Some(deeper) = self.deeper() else {
            // Not recursive: serde_json skips with a loop.
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return self.bad("too deep");
        };
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(deeper)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Some(deeper) = self.deeper() else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return self.bad("too deep");
        };
        // A payload of Keycloak's has some twenty members; what lies deeper has a few.
        let outermost = self.left == MAX_DEPTH;
        let mut map = Map::with_capacity(if outermost { 24 } else { 0 });
        let mut twice = false;
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(deeper)?;
            twice |= map.insert(name, value).is_some();
        }
        match twice {
            true => self.bad("a name twice"),
            false => Ok(Value::Object(map)),
        }
    }
}
