use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn seen(bytes: &[u8], skip: usize, step: usize) -> Vec<(u8, u32, usize)> {
    let mut frames = Frames::after(skip);
    let mut seen = Vec::new();
    for part in bytes.chunks(step) {
        frames.feed(part, |f| seen.push((f.kind, f.stream, f.length)));
    }
    seen
}

#[test]
fn frames_are_found_however_they_are_cut() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(0, 1, 1, &[7; 1000]));
    bytes.extend(frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    bytes.extend(frame(6, 0, 0, &[1; 8]));
    bytes.extend(frame(1, 4, 5, &[9; 9]));
    let all = vec![(4, 0, 0), (0, 1, 1000), (3, 3, 4), (6, 0, 8), (1, 5, 9)];
    for step in [1, 2, 8, 9, 10, 17, 33, 100_000] {
        assert_eq!(seen(&bytes, PREFACE, step), all, "{step}");
    }
}

#[test]
fn settings_come_first() {
    for (first, fine) in [
        (frame(SETTINGS, 0, 0, &[]), true),
        (frame(SETTINGS, ACK, 0, &[]), false),
        (frame(HEADERS, 5, 1, &[0x82]), false),
        (frame(6, 0, 0, &[0; 8]), false),
        (frame(0x42, 0, 0, &[]), false),
    ] {
        let bytes = [&[0; PREFACE], &first[..]].concat();
        for step in [1, 10, 100] {
            let mut incoming = Incoming::new();
            let mut parts = bytes.chunks(step);
            let all = parts.all(|part| incoming.feed(part, &Flood::default()));
            assert_eq!(all, fine, "{first:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resets_are_counted_over_time() {
    let (mut incoming, flood) = (Incoming::new(), Flood::default());
    let mut preface = vec![0; PREFACE];
    preface.extend(frame(SETTINGS, 0, 0, &[]));
    assert!(incoming.feed(&preface, &flood));
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    for n in 0..1000 {
        assert_eq!(flood.is_near(), n >= 100, "{n}");
        assert!(incoming.feed(&reset, &flood));
    }
    assert!(!flood.is_on());
    tokio::time::advance(Duration::from_secs(2)).await;
    for _ in 0..66 {
        assert!(incoming.feed(&reset, &flood));
    }
    assert!(!flood.is_on());
    assert!(incoming.feed(&reset, &flood));
    assert!(flood.is_on());
    let more = (0..1000).take_while(|_| incoming.feed(&reset, &flood));
    assert_eq!(more.count(), 998);
}

#[test]
fn floods_are_told_from_what_is_only_wrong() {
    const LIST: u32 = 1000;
    let mut fed = Incoming::new();
    let flood = Flood::default();
    fed.feed(&[0; PREFACE], &flood);
    fed.feed(&frame(SETTINGS, 0, 0, &[]), &flood);
    assert!(fed.is_flood(ENHANCE_YOUR_CALM, &flood, LIST));
    assert!(!fed.is_flood(1, &flood, LIST), "PROTOCOL_ERROR");
    // A block that cannot be read is wrong, and one that does not end is a flood.
    fed.feed(&frame(HEADERS, 0, 1, &[0; 600]), &flood);
    assert!(!fed.is_flood(COMPRESSION_ERROR, &flood, LIST));
    fed.feed(&frame(CONTINUATION, 0, 1, &[0; 600]), &flood);
    assert!(fed.is_flood(COMPRESSION_ERROR, &flood, LIST));
    fed.feed(&frame(HEADERS, 0, 3, &[0; 600]), &flood);
    assert!(!fed.is_flood(COMPRESSION_ERROR, &flood, LIST));
    flood.deny();
    assert!(!fed.is_flood(ENHANCE_YOUR_CALM, &flood, LIST));
}

#[test]
fn refusals_are_told_from_answers() {
    use Refused::{Connection, Request};
    let bare = |status: &[u8]| frame(HEADERS, 5, 1, status);
    for (sent, refused) in [
        (bare(&[0x8c]), vec![Request(Rejection::DoubtfulHost)]),
        (
            bare(&[0x48, 0x83, 1, 2, 3]),
            vec![Request(Rejection::HeaderTooLarge)],
        ),
        (
            [bare(&[0xbe]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 1])].concat(),
            vec![Request(Rejection::HeaderTooLarge)],
        ),
        // With more than a status, or more to come.
        (bare(&[0x8c; 20]), vec![]),
        (frame(HEADERS, 4, 1, &[0x88]), vec![]),
        // Trailers.
        (
            [frame(HEADERS, 4, 1, &[0x88]), bare(&[0xbe])].concat(),
            vec![],
        ),
        (
            [
                frame(HEADERS, 4, 3, &[0x88]),
                frame(DATA, 1, 3, &[1]),
                bare(&[0xbe]),
            ]
            .concat(),
            vec![Request(Rejection::HeaderTooLarge)],
        ),
        (
            frame(RST_STREAM, 0, 3, &[0, 0, 0, 1]),
            vec![Request(Rejection::MalformedRequest)],
        ),
        (frame(RST_STREAM, 0, 3, &[0, 0, 0, 7]), vec![]),
        (frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), vec![]),
        (frame(GOAWAY, 0, 0, &[0; 8]), vec![]),
        (
            frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11, b'x']),
            vec![Connection(11)],
        ),
    ] {
        let mut seen = Vec::new();
        Outgoing::new().feed(&sent, |what| seen.push(what));
        assert_eq!(seen, refused, "{}", sent.escape_ascii());
    }
}
