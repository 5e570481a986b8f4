//! Data-plane frames as a peer could send them: any bytes give frames or an error, whichever way they are cut.
#![no_main]

use bytes::{Buf as _, Bytes};
use libfuzzer_sys::fuzz_target;
use proto::frame::Decoder;

const MAX_PAYLOAD_BYTES: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, rest)) = data.split_first() else { return };
    let whole = Bytes::copy_from_slice(rest);
    let mut at_once = Decoder::new(MAX_PAYLOAD_BYTES);
    let mut input = whole.clone();
    let mut frames = 0_u32;
    let outcome = loop {
        match at_once.decode(&mut input) {
            Ok(Some(_)) => frames += 1,
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    // The same bytes in two pieces must come to the same.
    let mut piecewise = Decoder::new(MAX_PAYLOAD_BYTES);
    let middle = usize::from(cut).min(whole.len());
    let mut seen = 0_u32;
    let mut good = true;
    for mut piece in [whole.slice(..middle), whole.slice(middle..)] {
        while good {
            match piecewise.decode(&mut piece) {
                Ok(Some(_)) => seen += 1,
                Ok(None) => break,
                Err(_) => good = false,
            }
        }
        assert!(!good || !piece.has_remaining());
    }
    assert_eq!((frames, outcome), (seen, good));
});
