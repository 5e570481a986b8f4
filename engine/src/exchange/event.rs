//! Events on a channel: one byte of kind, then its fields in little-endian order.

use bytes::Bytes;

const WATERMARK: u8 = 1;
const END: u8 = 2;

/// What travels between the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// No later row has an event time before this one, in milliseconds since 1970 UTC.
    Watermark(i64),
    /// No later row at all.
    End,
}

impl Event {
    pub(crate) fn encode(self) -> Bytes {
        match self {
            Self::Watermark(time) => {
                let mut payload = vec![WATERMARK];
                payload.extend_from_slice(&time.to_le_bytes());
                payload.into()
            }
            Self::End => Bytes::from_static(&[END]),
        }
    }

    /// `None` if the payload is no event.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        match payload {
            [END] => Some(Self::End),
            [WATERMARK, time @ ..] => time.try_into().ok().map(|time| Self::Watermark(i64::from_le_bytes(time))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips_and_nothing_else_decodes(time in any::<i64>(), bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(Event::decode(&Event::Watermark(time).encode()), Some(Event::Watermark(time)));
            if let Some(event) = Event::decode(&bytes) {
                prop_assert_eq!(event.encode(), bytes);
            }
        }
    }

    #[test]
    fn end_round_trips() {
        assert_eq!(Event::decode(&Event::End.encode()), Some(Event::End));
    }
}
