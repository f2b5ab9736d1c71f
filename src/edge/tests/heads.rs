//! What a head may cost: time, bytes, fields and parsing.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_trickled_head_is_answered_408_at_the_deadline() {
    let edge = Edge::new();
    let mut client = edge.connect();
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(&mut client);
    let trickle = async {
        loop {
            if write.write_all(b"G").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let answer = tokio::select! {
        answer = response(&mut read) => answer,
        () = trickle => panic!("closed without an answer"),
    };
    assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
    is_problem(&answer, 408);
    ends(&mut read).await;
    assert!(
        edge.counted("portcullis_rejections_total{reason=\"header_timeout\",route=\"none\"} 1")
    );
    assert!(edge.counted("portcullis_unparsed_requests_total 0"));
    assert!(edge.counted(
        "portcullis_requests_total{method=\"other\",route=\"none\",status_class=\"4xx\"} 1"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_without_a_word() {
    let edge = Edge::new();
    let mut client = edge.connect();
    let began = Instant::now();
    ends(&mut client).await;
    assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
    assert!(edge.counted("portcullis_unparsed_requests_total 0"));
    assert!(edge.counted("portcullis_connections_open{listener=\"127.0.0.1:8072\"} 0"));
}

#[tokio::test(start_paused = true)]
async fn a_head_of_exactly_the_cap_passes_and_one_byte_more_is_431() {
    // Not a power of two, so that the parser's buffer would read beyond it.
    for cap in [CAP, 30_001] {
        let edge = Edge::with(|limits| limits.header_bytes = cap);
        let mut client = edge.connect();
        client.write_all(&head_of(cap)).await.unwrap();
        assert!(response(&mut client).await.0.starts_with("HTTP/1.1 200 "));
        client.write_all(&head_of(cap + 1)).await.unwrap();
        is_problem(&response(&mut client).await, 431);
        ends(&mut client).await;
        assert!(
            edge.counted(
                "portcullis_rejections_total{reason=\"header_too_large\",route=\"none\"} 1"
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn more_fields_than_the_parser_takes_are_431() {
    let edge = Edge::new();
    let mut client = edge.connect();
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    (0..300).for_each(|n| head.extend_from_slice(format!("a{n}: b\r\n").as_bytes()));
    head.extend_from_slice(b"\r\n");
    client.write_all(&head).await.unwrap();
    is_problem(&response(&mut client).await, 431);
}

#[tokio::test(start_paused = true)]
async fn every_request_of_a_connection_has_its_own_deadline() {
    let edge = Edge::new();
    let mut client = edge.connect();
    for _ in 0..3 {
        client.write_all(HELLO).await.unwrap();
        assert!(
            response(&mut client)
                .await
                .0
                .contains("Connection: keep-alive")
        );
        // Idle for longer than a head may take, even after an empty line: that is keep-alive's business.
        client.write_all(b"\r\n").await.unwrap();
        tokio::time::sleep(TIMEOUT * 2).await;
    }
    let began = Instant::now();
    client.write_all(b"GET / HT").await.unwrap();
    is_problem(&response(&mut client).await, 408);
    assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_held_against_the_head() {
    let edge = Edge::new();
    let mut client = edge.connect();
    for path in ["/", "/unread", "/"] {
        let body = vec![b'\n'; 4 * CAP];
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(TIMEOUT / 2).await;
        // In two pieces, with a pause beyond the head's deadline.
        client.write_all(&body[..CAP]).await.unwrap();
        tokio::time::sleep(TIMEOUT * 2).await;
        client.write_all(&body[CAP..]).await.unwrap();
        let (head, size) = response(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        if path == "/" {
            assert_eq!(size, body.len().to_string());
        }
    }
    assert!(edge.counted("portcullis_unparsed_requests_total 0"));
}

#[tokio::test(start_paused = true)]
async fn what_pingora_cannot_parse_gets_our_answer_and_is_counted() {
    for bad in [
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nbad field: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let edge = Edge::new();
        let mut client = edge.connect();
        client.write_all(bad.as_bytes()).await.unwrap();
        is_problem(&response(&mut client).await, 400);
        ends(&mut client).await;
        assert!(edge.counted("portcullis_unparsed_requests_total 1"));
        assert!(
            edge.counted(
                "portcullis_rejections_total{reason=\"malformed_request\",route=\"none\"} 1"
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn connect_is_405() {
    let edge = Edge::new();
    let mut client = edge.connect();
    let request = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    client.write_all(request).await.unwrap();
    let answer = response(&mut client).await;
    is_problem(&answer, 405);
    assert!(answer.0.contains("\r\nAllow: \r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_within_a_head_is_counted() {
    let edge = Edge::new();
    let mut client = edge.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHos").await.unwrap();
    client.shutdown().await.unwrap();
    ends(&mut client).await;
    assert!(edge.counted("portcullis_unparsed_requests_total 1"));
    // One that ends between requests is not.
    let mut client = edge.connect();
    client.write_all(HELLO).await.unwrap();
    response(&mut client).await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(edge.counted("portcullis_unparsed_requests_total 1"));
}

#[tokio::test(start_paused = true)]
async fn a_byte_at_a_time_costs_no_more_than_so_much() {
    let edge = Edge::new();
    let mut client = edge.connect();
    let head = head_of(CAP);
    let mut sent = 0;
    let answer = loop {
        if client.write_all(&head[sent..=sent]).await.is_err() {
            break response(&mut client).await;
        }
        sent += 1;
        // Lets the other side read each byte by itself.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        if sent == 6000 {
            break response(&mut client).await;
        }
    };
    is_problem(&answer, 408);
    assert!(
        edge.counted("portcullis_rejections_total{reason=\"header_timeout\",route=\"none\"} 1")
    );
}
