//! "The webhook slowed down every other request."
//!
//! To requests for other paths the layer is one comparison: nothing is allocated, their futures grow
//! by no more than a word, and bodies and errors go through as they are.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::{Ready, ready},
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower::{Layer, Service, service_fn};
use tower_firstpromoter::{fulfil_fn, intercept::ResponseBody};

mod delivery;
use delivery::{never, webhook};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and is not a test's.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let done = work();
    (ALLOCATIONS.get() - before, done)
}

/// A body as inconvenient as it may be: not `Sync`, not `Unpin`, not `Default`, with an error that is
/// no `Error`. The application's answers need not even be `Send`.
struct Awkward<Is = ()>(Cell<u8>, PhantomPinned, PhantomData<Is>);

type NotSend = Awkward<Rc<()>>;

#[derive(Debug, PartialEq)]
struct OwnError(u8);

impl<Is> Awkward<Is> {
    fn new() -> Self {
        Self(Cell::new(3), PhantomPinned, PhantomData)
    }
}

impl<Is> Body for Awkward<Is> {
    type Data = Bytes;
    type Error = OwnError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OwnError>>> {
        let left = self.0.get();
        self.0.set(left - 1);
        Poll::Ready(match left {
            3 => Some(Ok(Frame::data(Bytes::from_static(b"the application's own")))),
            2 => Some(Ok(Frame::trailers(http::HeaderMap::new()))),
            left => Some(Err(OwnError(left))),
        })
    }
    fn is_end_stream(&self) -> bool {
        self.0.get() == 0
    }
    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(21);
        hint.set_upper(42);
        hint
    }
}

type App = fn(Request<Awkward>) -> Ready<Result<Response<NotSend>, OwnError>>;

fn app(request: Request<Awkward>) -> Ready<Result<Response<NotSend>, OwnError>> {
    ready(match request.uri().path() {
        "/error" => Err(OwnError(9)),
        _ => Ok(Response::new(Awkward::new())),
    })
}

fn get(path: &'static str) -> Request<Awkward> {
    let mut request = Request::new(Awkward::new());
    *request.uri_mut() = http::Uri::from_static(path);
    request
}

const OTHERS: [&str; 9] =
    ["/", "/home", "/hook/below", "/hooks", "/Hook", "/hoo", "//hook", "/hook//", "/%68ook"];

#[test]
fn other_paths_allocate_nothing() {
    let layer = webhook(fulfil_fn(never)).at("/hook");
    let mut plain = service_fn(app as App);
    let mut wrapped = layer.layer(plain);
    let mut passing = layer.pass_other_events(|_| Awkward::new()).layer(plain);
    for path in OTHERS {
        let [first, second, third] = [get(path), get(path), get(path)];
        let (alone, _) = allocations(|| plain.call(first).now_or_never());
        let (within, answer) = allocations(|| wrapped.call(second).now_or_never());
        assert!(matches!(answer, Some(Ok(_))), "{path}");
        let (passed, answer) = allocations(|| passing.call(third).now_or_never());
        assert!(matches!(answer, Some(Ok(_))), "{path}");
        assert_eq!((alone, within, passed), (0, 0, 0), "{path}");
    }
    // So that a counter that does not count would be noticed.
    let (delivered, _) = allocations(|| wrapped.call(get("/hook")).now_or_never());
    assert!(delivered > 0);
}

#[test]
fn futures_grow_by_a_word() {
    const WORD: usize = size_of::<usize>();

    fn sizes<Fut: Future<Output = Result<Response<NotSend>, OwnError>>>(
        inner: fn(Request<Awkward>) -> Fut,
    ) -> (usize, usize, usize) {
        let layer = webhook(fulfil_fn(never)).at("/hook");
        let mut plain = service_fn(inner);
        let mut wrapped = layer.layer(plain);
        let mut passing = layer.pass_other_events(|_| Awkward::new()).layer(plain);
        (
            size_of_val(&plain.call(get("/"))),
            size_of_val(&wrapped.call(get("/"))),
            size_of_val(&passing.call(get("/"))),
        )
    }

    let (inner, wrapped, passing) = sizes(app);
    assert!(wrapped <= inner + WORD, "{inner} became {wrapped}");
    assert!(passing <= inner + WORD, "{inner} became {passing}");
    let (inner, wrapped, passing) = sizes(|request| async {
        let room = [0_u8; 4096];
        let answer = app(request).await;
        assert_eq!(room[0], 0);
        answer
    });
    assert!(inner > 4096 && wrapped <= inner + WORD, "{inner} became {wrapped}");
    assert!(passing <= inner + WORD, "{inner} became {passing}");
}

#[test]
fn bodies_and_errors_are_the_applications_own() {
    let mut app = webhook(fulfil_fn(never)).at("/hook").layer(service_fn(app as App));

    let error: OwnError = match app.call(get("/error")).now_or_never() {
        Some(Err(error)) => error,
        _ => panic!("an error goes through"),
    };
    assert_eq!(error, OwnError(9));

    let answer = app.call(get("/home")).now_or_never().expect("at once").expect("an answer");
    let mut body: Pin<Box<ResponseBody<NotSend>>> = Box::pin(answer.into_body());
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (21, Some(42)));
    assert!(!body.is_end_stream());
    let mut next = || body.frame().now_or_never().expect("at once");
    let data = next().expect("a frame").expect("no error").into_data();
    assert_eq!(data.expect("data"), "the application's own");
    assert!(next().expect("a frame").expect("no error").is_trailers());
    assert_eq!(next().expect("a frame").err(), Some(OwnError(1)));
    assert!(body.is_end_stream());
}
