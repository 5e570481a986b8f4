//! A deadline for all steps of a handshake together.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::Sleep;

/// What `work` comes to; `None` if `deadline` is first.
///
/// One `Sleep` serves every step, because a timer that starts costs a system call. Unlike tokio's `timeout`, it does not
/// look at the clock while `work` uses up the task's budget at every poll; no handshake, which is bounded in bytes, can
/// do that. `work` is best pinned already: a handshake's future is several KiB long, and each function it is handed to
/// would copy it.
pub(super) async fn before<F: Future>(mut deadline: Pin<&mut Sleep>, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => deadline.as_mut().poll(cx).map(|()| None),
    })
    .await
}
