//! Shapes that several fields share: one or a list of it, a text or an object, null for nothing.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// What may be written instead of an object, or beside a list of them.
pub(crate) trait Shape {
    /// What it is, after "must be".
    const ONE: &'static str;
    /// What several are, after "must be".
    const SEVERAL: &'static str;
}

/// One, or a list of several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OneOrMany<T> {
    pub(crate) items: Vec<T>,
    /// Whether it is written as a list, so that paths have positions.
    pub(crate) is_list: bool,
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.items.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Shape> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ForShape<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Shape> Visitor<'de> for ForShape<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::SEVERAL)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let one = T::deserialize(StrDeserializer::new(text))?;
                Ok(OneOrMany { items: vec![one], is_list: false })
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                let one = T::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(OneOrMany { items: vec![one], is_list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
                let items = Vec::deserialize(SeqAccessDeserializer::new(elements))?;
                Ok(OneOrMany { items, is_list: true })
            }
        }
        deserializer.deserialize_any(ForShape(PhantomData))
    }
}

/// An object that may also be written as a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct OrText<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Shape + From<String>> Deserialize<'de> for OrText<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ForShape<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Shape + From<String>> Visitor<'de> for ForShape<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::ONE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                Ok(T::from(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_any(ForShape(PhantomData)).map(Self)
    }
}

/// A text with a name for what it holds, so that a wrong type is answered with what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Text<T>(pub(crate) String, PhantomData<T>);

impl<T> From<String> for Text<T> {
    fn from(text: String) -> Self {
        Self(text, PhantomData)
    }
}

impl<'de, T: Shape> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ForShape<T>(PhantomData<T>);
        impl<T: Shape> Visitor<'_> for ForShape<T> {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::ONE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
        }
        deserializer.deserialize_str(ForShape(PhantomData::<T>)).map(|text| Self(text, PhantomData))
    }
}

impl<T: Shape> Shape for Text<T> {
    const ONE: &'static str = T::ONE;
    const SEVERAL: &'static str = T::SEVERAL;
}

/// Reads null as nothing, as Kubernetes does.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads a number as the text that it is written as.
pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    struct ForText;
    impl Visitor<'_> for ForText {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text or a whole number")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    from.deserialize_any(ForText)
}
