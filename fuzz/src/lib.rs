//! What the targets of `proto` do with their bytes, apart from libFuzzer, so that `proto/tests/seeds.rs` does the same.

use bytes::{Buf as _, Bytes};
use proto::{
    blob::{Greeting, Request, Response},
    frame::{Decoder, Frame},
};

/// Of the decoder here, bytes.
const MAX_PAYLOAD_BYTES: usize = 1 << 16;

/// Any bytes give frames or an error, the same whichever way they are cut. The first byte says where.
pub fn frames(data: &[u8]) {
    let Some((&cut, rest)) = data.split_first() else { return };
    let whole = Bytes::copy_from_slice(rest);
    let middle = usize::from(cut).min(whole.len());
    assert_eq!(decode([whole.clone()]), decode([whole.slice(..middle), whole.slice(middle..)]));
}

/// The frames, and whether that is all there was.
fn decode<const N: usize>(pieces: [Bytes; N]) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::new(MAX_PAYLOAD_BYTES);
    let mut frames = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
        assert!(!piece.has_remaining());
    }
    (frames, true)
}

/// Headers as either side could receive them; what parses encodes to the same bytes.
pub fn blob_requests(data: &[u8]) {
    if let Some(header) = data.first_chunk()
        && let Ok(request) = Request::parse(header)
    {
        assert_eq!(&request.encode(), header);
    }
    if let Some(header) = data.first_chunk()
        && let Ok(response) = Response::parse(header)
    {
        assert_eq!(&response.encode(), header);
    }
    if let Some(header) = data.first_chunk()
        && let Ok(greeting) = Greeting::parse(header)
    {
        assert_eq!(&greeting.encode(), header);
    }
}
