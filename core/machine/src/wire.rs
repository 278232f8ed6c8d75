//! A reader of protobuf fields in place, for the few messages that every replay passes through once per event. All others
//! are decoded by prost. It knows the wire, not the messages.

/// Reads fields one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Fixed-width: nothing that is read here has one.
    Other,
}

/// What is wrong with an encoded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a field has the wire type {0}, which does not exist")]
    WireType(u8),
    #[error("a number is longer than ten bytes")]
    Number,
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field: its number and value.
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(length)?)
            }
            1 => self.take(8).map(|_| Value::Other)?,
            5 => self.take(4).map(|_| Value::Other)?,
            other => return Err(WireError::WireType(other as u8)),
        };
        Ok(Some(((key >> 3) as u32, value)))
    }

    /// Passes by numbers whose one-byte key is in `keys`, without reading them.
    #[inline(always)]
    pub fn pass(&mut self, keys: [u8; 2]) {
        while let [key, rest @ ..] = self.rest
            && keys.contains(key)
            && let Some(end) = rest.iter().position(|byte| *byte < 0x80)
        {
            self.rest = &rest[end + 1..];
        }
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn number(&mut self) -> Result<u64, WireError> {
        let &[first, ref rest @ ..] = self.rest else { return Err(WireError::Truncated) };
        if first < 0x80 {
            self.rest = rest;
            return Ok(first.into());
        }
        self.long_number()
    }

    fn long_number(&mut self) -> Result<u64, WireError> {
        let mut number = 0_u64;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Number })
    }
}

impl Value<'_> {
    /// As a number, 0 if it is none.
    #[inline]
    pub fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) | Self::Other => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x20, 0];
        let mut fields = Fields::new(&message);
        assert!(matches!(fields.next(), Ok(Some((1, Value::Number(150))))));
        assert!(matches!(fields.next(), Ok(Some((2, Value::Bytes(b"hi"))))));
        assert!(matches!(fields.next(), Ok(Some((3, Value::Other)))));
        assert!(matches!(fields.next(), Ok(Some((4, Value::Number(0))))));
        assert!(matches!(fields.next(), Ok(None)));
    }

    #[test]
    fn numbers_are_passed_by() {
        let mut fields = Fields::new(&[0x28, 0xff, 0x01, 0x20, 3, 0x08, 7]);
        fields.pass([0x20, 0x28]);
        assert!(matches!(fields.next(), Ok(Some((1, Value::Number(7))))));
        let mut cut = Fields::new(&[0x28, 0xff]);
        cut.pass([0x20, 0x28]);
        assert_eq!(cut.next().err(), Some(WireError::Truncated));
    }

    #[test]
    fn damage_is_an_error() {
        assert_eq!(Fields::new(&[0x08]).next().err(), Some(WireError::Truncated));
        assert_eq!(Fields::new(&[0x12, 9, 1]).next().err(), Some(WireError::Truncated));
        assert_eq!(Fields::new(&[0x0b]).next().err(), Some(WireError::WireType(3)));
        assert_eq!(Fields::new(&[0x08; 1]).next().err(), Some(WireError::Truncated));
        assert_eq!(Fields::new(&[0xff; 12]).next().err(), Some(WireError::Number));
    }
}
