//! What strangers' files are read as.

use super::*;

#[test]
fn a_configuration_counts_as_the_shipped_model_does() {
    let llama = r#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": false}"#;
    let read = from_config(llama, "Llama-3-8B").unwrap();
    assert_eq!(read, shipped("Llama-3-8B"));
    let deepseek = r#"{"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61,
        "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1,
        "first_k_dense_replace": 3, "vocab_size": 129280, "tie_word_embeddings": false}"#;
    assert_eq!(from_config(deepseek, "DeepSeek-V3").unwrap(), shipped("DeepSeek-V3"));
    let hybrid = r#"{"model_type": "qwen3_5_moe", "text_config": {"model_type": "qwen3_5_moe_text", "hidden_size": 4096,
        "num_hidden_layers": 60, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 256,
        "linear_num_key_heads": 16, "linear_num_value_heads": 64, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 1024,
        "shared_expert_intermediate_size": 1024, "vocab_size": 248320}}"#;
    assert_eq!(from_config(hybrid, "Qwen3.5-397B-A17B").unwrap(), shipped("Qwen3.5-397B-A17B"));
}

#[test]
fn a_configuration_that_is_unknown_or_hostile_is_named_and_never_a_panic() {
    let base = r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100}"#;
    assert!(from_config(base, "x").is_ok());
    for (from, to, said) in [
        ("\"llama\"", "\"rwkv9\"", "known are llama"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "`num_attention_heads`"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "cannot share 3"),
        ("\"hidden_size\": 64", "\"hidden_size\": 64.5", "`hidden_size`"),
        ("\"hidden_size\": 64", "\"hidden_size\": 99999999999999", "`hidden_size`"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4000000000", "`num_hidden_layers`"),
        ("\"vocab_size\": 100", "\"vocab_size\": \"NaN\"", "`vocab_size`"),
        ("}", "", "not JSON"),
    ] {
        let error = from_config(&base.replacen(from, to, 1), "x").unwrap_err().to_string();
        assert!(error.contains(said), "{to}: {error}");
    }
}

/// A small GGUF file with two tensors.
fn gguf() -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    let numbers = [
        ("llama.embedding_length", 64_u32),
        ("llama.block_count", 2),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.feed_forward_length", 128),
    ];
    bytes.extend((numbers.len() as u64 + 2).to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    text(&mut bytes, "llama");
    text(&mut bytes, "tokenizer.ggml.tokens");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    for token in ["a", "b", "c"] {
        text(&mut bytes, token);
    }
    for (name, number) in numbers {
        text(&mut bytes, name);
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(number.to_le_bytes());
    }
    for (name, kind) in [("token_embd.weight", 2_u32), ("output.weight", 1)] {
        text(&mut bytes, name);
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(64_u64.to_le_bytes());
        bytes.extend(3_u64.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
    }
    bytes
}

#[test]
fn a_header_tells_bytes_exactly() {
    let model = read_gguf(&gguf()).unwrap();
    // 192 weights in blocks of 32 at 18 bytes, and 192 at 2 bytes.
    assert_eq!((model.params, model.embedding_bytes, model.weight_bytes), (384, 108, 108 + 384));
    let architecture = model.architecture;
    assert_eq!(
        (architecture.d_model, architecture.vocab, architecture.blocks.len(), architecture.tied),
        (64, 3, 2, false)
    );
}

#[test]
fn hostile_headers_are_errors_wherever_they_are_wrong() {
    let whole = gguf();
    for end in 0..whole.len() {
        assert!(read_gguf(&whole[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(read_gguf(b"GGML12345678"), Err(GgufError::Magic));
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize
    };
    // Any answer will do, a panic or a huge allocation will not.
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][next() % 5];
        }
        let _ = read_gguf(&bytes);
    }
}

#[test]
fn models_without_attention_count_as_published() {
    let mamba = r#"{"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "state_size": 16, "expand": 2,
        "conv_kernel": 4, "time_step_rank": 160, "vocab_size": 50280}"#;
    let mamba = from_config(mamba, "mamba-2.8b").unwrap();
    assert!(near(mamba.params() as f64 / 1e9, 2.768, 0.001), "{}", mamba.params());
    // 64 layers x 5120 channels x (16 x 4 bytes + 3 x 2 bytes); nothing grows.
    assert_eq!((mamba.state_bytes(), mamba.cache_bytes(1000, 2.0)), (64.0 * 5120.0 * 70.0, 0.0));
    let second = r#"{"model_type": "mamba2", "hidden_size": 2560, "num_hidden_layers": 64, "state_size": 128,
        "num_heads": 80, "head_dim": 64, "n_groups": 1, "conv_kernel": 4, "vocab_size": 50288}"#;
    let second = from_config(second, "mamba2-2.7b").unwrap();
    assert!(near(second.params() as f64 / 1e9, 2.703, 0.002), "{}", second.params());
    let goose = r#"{"model_type": "rwkv7", "hidden_size": 2048, "num_hidden_layers": 24, "head_dim": 64,
        "intermediate_size": 8192, "decay_low_rank_dim": 96, "a_low_rank_dim": 96, "v_low_rank_dim": 64,
        "gate_low_rank_dim": 256, "vocab_size": 65536, "tie_word_embeddings": false}"#;
    let goose = from_config(goose, "rwkv7-1.5b").unwrap();
    assert!(near(goose.params() as f64 / 1e9, 1.527, 0.002), "{}", goose.params());
    // 24 layers x (32 heads x 64 x 64 x 4 bytes + 2 x 2048 x 2 bytes).
    assert_eq!(goose.state_bytes(), 24.0 * (32.0 * 64.0 * 64.0 * 4.0 + 8192.0));
}

#[test]
fn numbers_that_make_no_model_are_refused_before_they_are_counted() {
    let huge = r#"{"model_type": "llama", "hidden_size": 4294967296, "num_hidden_layers": 4096, "num_attention_heads": 4096,
        "intermediate_size": 4294967296, "vocab_size": 4294967296}"#;
    assert!(matches!(from_config(huge, "x"), Err(ConfigError::Contradiction(_))));
}

fn safetensors(header: &str) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes
}

#[test]
fn a_safetensors_header_tells_bytes_exactly() {
    let header = r#"{"__metadata__": {"format": "pt"},
        "model.embed_tokens.weight": {"dtype": "BF16", "shape": [10, 4], "data_offsets": [0, 80]},
        "model.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [80, 96]}}"#;
    let bytes = safetensors(header);
    let model = read_safetensors(&bytes).unwrap();
    assert_eq!(model, SafetensorsModel { weight_bytes: 96, embedding_bytes: 80, params: 44 });
    assert_eq!(safetensors_header_bytes(&bytes[..8]).unwrap(), bytes.len() as u64);
    assert_eq!(model.and(model).weight_bytes, 192);
}

#[test]
fn hostile_safetensors_are_errors() {
    let tensor = |entry: &str| read_safetensors(&safetensors(&format!("{{\"x\": {entry}}}")));
    assert_eq!(read_safetensors(b"1234567"), Err(SafetensorsError::Short(8)));
    assert_eq!(read_safetensors(&[0xFF; 16]), Err(SafetensorsError::Length(u64::MAX)));
    assert!(matches!(read_safetensors(&safetensors("[]")), Err(SafetensorsError::Syntax(_))));
    assert!(matches!(read_safetensors(&safetensors("{\"a\"")), Err(SafetensorsError::Syntax(_))));
    for entry in [
        "1",
        "null",
        "{}",
        r#"{"shape": [1], "data_offsets": [5, 1]}"#,
        r#"{"shape": [18446744073709551615, 3], "data_offsets": [0, 1]}"#,
        r#"{"shape": [-1], "data_offsets": [0, 1]}"#,
        r#"{"shape": 5, "data_offsets": [0, 1]}"#,
    ] {
        assert_eq!(tensor(entry), Err(SafetensorsError::Tensor("x".into())), "{entry}");
    }
}

#[test]
fn device_files_are_all_listed_and_tell_the_source_of_every_figure() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/devices");
    let there = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(there, crate::plan::device::FILES.len(), "a file in devices/ is not listed");
    assert_eq!(devices().len(), there, "a device file cannot be read");
    let mut names: Vec<&str> = devices().iter().map(|device| device.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), there, "two devices have one name");
    for device in devices() {
        let told: Vec<&str> = device.sources.iter().map(|source| source.figure).collect();
        for (figure, known) in [
            ("bandwidth", true),
            ("memory", true),
            ("operations", device.flop_per_second.is_some()),
            ("power", device.watts.is_some()),
            ("GPU cores", device.gpu_cores.is_some()),
            ("neural engine", device.neural_engine_ops.is_some()),
        ] {
            assert_eq!(told.contains(&figure), known, "{}: {figure}", device.name);
        }
        assert!(device.sources.iter().all(|source| source.text.len() > 3), "{}", device.name);
        assert!(device.bytes_per_second > 1e9 && device.most_memory() > 1e9, "{}", device.name);
    }
}

#[test]
fn device_files_that_are_wrong_are_named() {
    let good = r#"name = "x"
        class = "cpu"
        gigabytes_per_second = { value = 10, kind = "measured", source = "me" }
        memory_gigabytes = { sizes = [8, 16], kind = "datasheet", source = "me" }"#;
    let device = read_device(good).unwrap();
    assert_eq!((device.most_memory(), device.kind()), (16e9, Kind::Measured));
    assert_eq!(read_device(&good.replace("cpu", "abacus")), Err(DeviceError::Class("abacus".into())));
    assert_eq!(
        read_device(&good.replace("value = 10", "value = nan")),
        Err(DeviceError::Figure("bandwidth"))
    );
    assert_eq!(read_device(&good.replace("[8, 16]", "[]")), Err(DeviceError::Figure("memory")));
    assert!(matches!(read_device(&good.replace("source = \"me\"", "by = 1")), Err(DeviceError::Syntax(_))));
}
