//! Sets of request methods.

use http::Method;

/// Methods that something is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Those that change nothing (RFC 9110, section 9.2.1).
    Safe,
    /// Those that change no more when they are done twice (RFC 9110, section 9.2.2).
    Idempotent,
    /// All of them.
    Any,
    /// Exactly these.
    Only(Vec<Method>),
}

impl Methods {
    /// Whether a method is one of them.
    pub fn contains(&self, method: &Method) -> bool {
        match self {
            Self::Safe => method.is_safe(),
            Self::Idempotent => method.is_idempotent(),
            Self::Any => true,
            Self::Only(methods) => methods.contains(method),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_each() {
        let [get, put, post] = [Method::GET, Method::PUT, Method::POST];
        let cases = [
            (Methods::Safe, [true, false, false]),
            (Methods::Idempotent, [true, true, false]),
            (Methods::Any, [true, true, true]),
            (Methods::Only(vec![Method::POST]), [false, false, true]),
            (Methods::Only(vec![]), [false, false, false]),
        ];
        for (methods, expected) in cases {
            assert_eq!([&get, &put, &post].map(|method| methods.contains(method)), expected, "{methods:?}");
        }
    }
}
