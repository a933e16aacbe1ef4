//! `/metrics`: a text of megabytes, made anew for each reader, and yet bounded.
//!
//! At most [`PLACES`] texts are there at a time, being made or being read. One more reader waits a
//! while for a place and is then told to come again. Who does not read on loses the text after
//! [`READING`]: the place is needed, and a reader that is dead must not keep the others away. So
//! neither many readers nor slow ones take more than a few texts' memory, or more than a few
//! threads' time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Makes the text; may take a while.
pub(super) type Render = dyn Fn() -> Result<Vec<u8>, String> + Send + Sync;

/// The places for texts. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    places: Arc<Semaphore>,
    waiting: Duration,
    reading: Duration,
}

impl Default for Scrapes {
    fn default() -> Self {
        Self::new(PLACES, WAITING, READING)
    }
}

impl Scrapes {
    fn new(places: usize, waiting: Duration, reading: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            waiting,
            reading,
        }
    }

    /// Answers one reader.
    pub(super) async fn answer(&self, render: Arc<Render>) -> Response {
        let place = timeout(self.waiting, Arc::clone(&self.places).acquire_owned()).await;
        // Nobody closes the semaphore.
        let Ok(Ok(place)) = place else {
            let text = "too many read /metrics at the same time; come again\n";
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        };
        match tokio::task::spawn_blocking(move || (render)()).await {
            Ok(Ok(text)) => {
                let body = Body::new(self.lend(text, place));
                ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], body).into_response()
            }
            Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }

    /// The text as a body, for as long as it may be read.
    fn lend(&self, text: Vec<u8>, place: OwnedSemaphorePermit) -> Lent {
        let length = text.len();
        let text = Arc::new(Text {
            text,
            _place: place,
        });
        let (until, read) = oneshot::channel::<Infallible>();
        let lent = Lent {
            text: Arc::downgrade(&text),
            length,
            told: 0,
            _until: until,
        };
        let reading = self.reading;
        tokio::spawn(async move {
            let _read_or_late = timeout(reading, read).await;
            drop(text);
        });
        lent
    }
}

/// A text and its place.
#[derive(Debug)]
struct Text {
    text: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

/// What a reader gets: the text piece by piece, so that what waits in its connection is little.
#[derive(Debug)]
struct Lent {
    text: Weak<Text>,
    length: usize,
    /// Bytes that are on their way.
    told: usize,
    /// Dropped with the body: then nobody reads any more.
    _until: oneshot::Sender<Infallible>,
}

/// A text was not read in time.
#[derive(Debug, thiserror::Error)]
#[error("/metrics was not read in time")]
struct NotRead;

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = NotRead;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NotRead>>> {
        if self.told >= self.length {
            return Poll::Ready(None);
        }
        let Some(text) = self.text.upgrade() else {
            self.told = self.length;
            return Poll::Ready(Some(Err(NotRead)));
        };
        let rest = text.text.get(self.told..).unwrap_or_default();
        let piece = rest.get(..PIECE).unwrap_or(rest);
        self.told = self.told.saturating_add(piece.len());
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.told >= self.length
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.length.saturating_sub(self.told);
        SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Texts at a time: two Prometheus servers, a person and an agent.
const PLACES: usize = 4;

/// How long a reader waits for a place. Prometheus gives up after 10 s.
const WAITING: Duration = Duration::from_secs(5);

/// How long a text may be read.
const READING: Duration = Duration::from_secs(10);

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn megabyte() -> Arc<Render> {
        let text = |number: usize| number.to_string().into_bytes();
        Arc::new(move || Ok((0..200_000).flat_map(text).collect()))
    }

    async fn read(response: Response) -> Option<Bytes> {
        let body = response.into_body().collect().await.ok()?;
        Some(body.to_bytes())
    }

    #[tokio::test]
    async fn a_text_arrives_whole_and_says_how_long_it_is() {
        let render = megabyte();
        let expected = render().unwrap();
        let response = Scrapes::default().answer(render).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROMETHEUS_TEXT);
        let told = http_body::Body::size_hint(response.body()).exact();
        assert_eq!(told, u64::try_from(expected.len()).ok());
        assert_eq!(read(response).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_text_that_cannot_be_made_says_why_and_gives_its_place_back() {
        let scrapes = Scrapes::new(1, LONG, LONG);
        for _ in 0..2 {
            let failing: Arc<Render> = Arc::new(|| Err("no text".to_owned()));
            let response = scrapes.answer(failing).await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(read(response).await.unwrap(), "no text");
        }
    }

    #[tokio::test]
    async fn readers_beyond_the_places_wait_and_are_sent_away() {
        let scrapes = Scrapes::new(1, Duration::from_millis(1), LONG);
        let first = scrapes.answer(megabyte()).await;
        let second = scrapes.answer(megabyte()).await;
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        // The first has read, or has gone: its place is free.
        drop(first);
        let patient = Scrapes {
            waiting: LONG,
            ..scrapes
        };
        for _ in 0..3 {
            let next = patient.answer(megabyte()).await;
            assert_eq!(next.status(), StatusCode::OK);
            assert!(read(next).await.is_some());
        }
    }

    #[tokio::test]
    async fn who_does_not_read_loses_the_text_and_its_place() {
        let scrapes = Scrapes::new(1, LONG, Duration::from_millis(1));
        let stuck = scrapes.answer(megabyte()).await;
        // Comes when the place is free, since the text before is gone.
        let next = scrapes.answer(megabyte()).await;
        assert_eq!(next.status(), StatusCode::OK);
        assert_eq!(read(stuck).await, None, "no text is no empty text");
    }
}
