use super::*;

fn to_candidate() -> Vec<ToCandidate> {
    let start =
        |budget| ToCandidate::Start(Start { seed: 7, vocab_size: 4096, max_seq_len: 256, bos: 1, budget });
    vec![
        start(Budget::Seconds(20.5)),
        start(Budget::Tokens(10_000_000)),
        start(Budget::Steps(500)),
        ToCandidate::Batch { progress: 0.25, tokens: vec![1, 2, 3, u32::MAX] },
        ToCandidate::Batch { progress: 1.0, tokens: vec![] },
        ToCandidate::Stop,
        ToCandidate::Score { rows: 2, seq_len: 3, tokens: vec![1, 2, 3, 4, 5, 6] },
        ToCandidate::Finish,
    ]
}

fn from_candidate() -> Vec<FromCandidate> {
    vec![
        FromCandidate::Hello { version: VERSION },
        FromCandidate::NextBatch { rows: 8, seq_len: 256 },
        FromCandidate::Step { loss: 8.25 },
        FromCandidate::Fact { name: "parameters".into(), value: 1e6 },
        FromCandidate::Trained,
        FromCandidate::Logits(vec![0.5, -1.5, f32::MAX]),
        FromCandidate::GaveUp { diverged: true, message: "loss is NaN — stopped".into() },
        FromCandidate::GaveUp { diverged: false, message: String::new() },
    ]
}

fn frame(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    send(&mut bytes, message).unwrap();
    bytes
}

/// Deterministic bytes that look random (SplitMix64; Steele, Lea, Flood 2014).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()[0]
    })
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    for message in to_candidate() {
        assert_eq!(receive::<ToCandidate>(&mut &*frame(&message), 1 << 20).unwrap(), message);
    }
    for message in from_candidate() {
        assert_eq!(receive::<FromCandidate>(&mut &*frame(&message), 1 << 20).unwrap(), message);
    }
}

#[test]
fn messages_follow_each_other_without_gaps() {
    let bytes: Vec<u8> = from_candidate().iter().flat_map(frame).collect();
    let mut rest = &*bytes;
    for message in from_candidate() {
        assert_eq!(receive::<FromCandidate>(&mut rest, 1 << 20).unwrap(), message);
    }
    assert!(rest.is_empty());
}

#[test]
fn a_frame_cut_anywhere_is_an_ended_connection() {
    for bytes in to_candidate().iter().map(frame) {
        for length in 0..bytes.len() {
            match receive::<ToCandidate>(&mut &bytes[..length], 1 << 20) {
                Err(ProtocolError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
                other => panic!("{length} of {} bytes gave {other:?}", bytes.len()),
            }
        }
    }
}

#[test]
fn a_payload_one_byte_off_is_malformed() {
    for message in from_candidate() {
        let (tag, mut payload) = message.encode();
        let free_text = matches!(message, FromCandidate::Fact { .. } | FromCandidate::GaveUp { .. });
        if !free_text {
            payload.push(0);
            assert!(
                matches!(FromCandidate::decode(tag, &payload), Err(ProtocolError::Malformed(t)) if t == tag)
            );
        }
    }
    assert!(matches!(FromCandidate::decode(GAVE_UP, &[2]), Err(ProtocolError::Malformed(GAVE_UP))));
    assert!(matches!(FromCandidate::decode(GAVE_UP, &[0, 0xff]), Err(ProtocolError::Malformed(GAVE_UP))));
}

#[test]
fn messages_of_the_other_direction_are_unknown_tags() {
    for message in to_candidate() {
        let (tag, payload) = message.encode();
        assert!(matches!(FromCandidate::decode(tag, &payload), Err(ProtocolError::Tag(t)) if t == tag));
    }
}

#[test]
fn another_version_of_the_library_cannot_read_start() {
    let (tag, mut payload) = to_candidate()[0].encode();
    payload[0] += 1;
    assert!(matches!(ToCandidate::decode(tag, &payload), Err(ProtocolError::Malformed(_))));
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_read() {
    let mut bytes = vec![STEP];
    bytes.extend(1001u32.to_le_bytes());
    let mut rest = &*bytes;
    assert!(matches!(receive::<FromCandidate>(&mut rest, 1000), Err(ProtocolError::TooLong(1001))));
}

#[test]
fn random_bytes_never_panic() {
    for seed in 0..20_000 {
        let bytes: Vec<u8> = noise(seed).skip(1).take((seed % 64) as usize).collect();
        // Every tag gets its share of random payloads, alone and behind a head that claims their length.
        let tag = [noise(seed).next().unwrap(), 1 + (seed % 5) as u8, 65 + (seed % 7) as u8];
        for tag in tag {
            let _ = ToCandidate::decode(tag, &bytes);
            let _ = FromCandidate::decode(tag, &bytes);
            let mut frame = vec![tag];
            frame.extend((bytes.len() as u32).to_le_bytes());
            frame.extend(&bytes);
            assert!(!matches!(receive::<FromCandidate>(&mut &*frame, 1 << 16), Err(ProtocolError::Io(_))));
        }
        let _ = receive::<FromCandidate>(&mut &*bytes, u32::MAX);
        let _ = receive_answer(&mut &*bytes, &mut [0.0; 3], u32::MAX);
    }
}

#[test]
fn logits_are_read_in_place_and_other_answers_are_told_apart() {
    let mut bytes = Vec::new();
    send_logits(&mut bytes, &[1.0, -2.0, 3.5]).unwrap();
    assert_eq!(bytes, frame(&FromCandidate::Logits(vec![1.0, -2.0, 3.5])));

    let mut logits = [0.0; 3];
    assert_eq!(receive_answer(&mut &*bytes, &mut logits, 100).unwrap(), Answer::Logits);
    assert_eq!(logits, [1.0, -2.0, 3.5]);
    assert_eq!(receive_answer(&mut &*bytes, &mut [0.0; 4], 100).unwrap(), Answer::WrongLength(12));
    let trained = frame(&FromCandidate::Trained);
    let other = receive_answer(&mut &*trained, &mut logits, 100).unwrap();
    assert_eq!(other, Answer::Other(FromCandidate::Trained));
}

#[test]
fn budgets_are_read_as_they_are_shown() {
    for (text, budget) in [
        ("20s", Budget::Seconds(20.0)),
        ("0.5s", Budget::Seconds(0.5)),
        ("10000000tokens", Budget::Tokens(10_000_000)),
        ("500steps", Budget::Steps(500)),
    ] {
        assert_eq!(text.parse(), Ok(budget));
        assert_eq!(budget.to_string(), text);
    }
    for text in [
        "",
        "20",
        "s",
        "-1s",
        "0s",
        "NaNs",
        "infs",
        "1e999s",
        "0tokens",
        "1.5tokens",
        "20 s",
        "20m",
        "0steps",
        "0evaluations",
    ] {
        assert_eq!(text.parse::<Budget>(), Err(BudgetError::Unreadable(text.to_owned())), "{text}");
    }
    let refused = "200evaluations".parse::<Budget>().unwrap_err();
    assert!(refused.to_string().contains("seconds, tokens or steps"), "{refused}");
}
