//! Blob protocol headers as either side could receive them; what parses must encode to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::blob::{Greeting, Request, Response};

fuzz_target!(|data: &[u8]| {
    if let Some(Ok(header)) = data.get(..Request::LEN).map(<&[u8; Request::LEN]>::try_from)
        && let Ok(request) = Request::parse(header)
    {
        assert_eq!(&request.encode(), header);
    }
    if let Some(Ok(header)) = data.get(..Response::LEN).map(<&[u8; Response::LEN]>::try_from)
        && let Ok(response) = Response::parse(header)
    {
        assert_eq!(&response.encode(), header);
    }
    if let Some(Ok(header)) = data.get(..Greeting::LEN).map(<&[u8; Greeting::LEN]>::try_from) {
        let _ = Greeting::parse(header);
    }
});
