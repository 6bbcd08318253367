//! Any bytes as a GGUF file: parsing neither panics nor takes long, and what it accepts keeps
//! its promises: data inside the file, values that print, a header that writes and reads again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powerinfer::gguf::{Writer, parse, parse_prefix};

fuzz_target!(|bytes: &[u8]| {
    // The same bytes as the start of a longer file: claims are then checked against more.
    let _ = parse_prefix(bytes, u64::MAX, "prefix");
    let Ok(header) = parse(bytes, "fuzz") else { return };

    for (key, value) in header.meta.iter() {
        assert!(header.meta.get(key).is_some());
        let _ = value.to_string();
        let _ = header.meta.get_u32(key);
        let _ = header.meta.get_f32s(key);
        let _ = header.meta.get_u32_per_layer(key, 2);
    }
    for t in &header.tensors {
        let start = usize::try_from(header.data_offset + t.offset).expect("inside the file");
        let data = &bytes[start..][..t.n_bytes as usize];
        let _ = powerinfer::quant::validate(t.ty, data).is_ok();
    }

    let mut w = Writer::copy_of(&header.meta);
    for t in &header.tensors {
        w.add_tensor(&t.name, t.shape.dims(), t.ty).expect("was read");
    }
    // An alignment of gigabytes is legal; padding for it is not worth the memory here.
    if header.meta.alignment() <= 4096 {
        let written = w.header().expect("was read");
        let data_len = header.tensors.last().map_or(0, |t| t.offset + t.n_bytes);
        let again =
            parse_prefix(&written, written.len() as u64 + data_len, "again").expect("own header");
        assert_eq!(again.tensors, header.tensors);
        assert_eq!(again.meta.len(), header.meta.len());
    }
});
