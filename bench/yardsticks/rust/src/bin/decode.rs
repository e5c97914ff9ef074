//! tokio-util's `LengthDelimitedCodec`: decodes a stream of frames, u32be, chunk by chunk.
//!
//!     decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES       see ../../../README.md
//!
//! One copy: from the chunk into the buffer, as a read would fill it. A payload is a `BytesMut`: a part of that buffer,
//! which lives as long as one of its parts. There is no runtime and no socket: `decode` is all that runs.

use bytes::{Buf, BytesMut};
use std::{env, error::Error, fs, hint::black_box, time::Instant};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

fn decode(stream: &[u8], chunk_size: usize, mut handle: impl FnMut(BytesMut)) -> Result<(), Box<dyn Error>> {
    let mut codec = LengthDelimitedCodec::builder().max_frame_length(16 << 20).new_codec();
    let mut buffer = BytesMut::new();
    for chunk in stream.chunks(chunk_size) {
        buffer.extend_from_slice(chunk);
        while let Some(payload) = codec.decode(&mut buffer)? {
            handle(payload);
        }
    }
    if buffer.has_remaining() {
        return Err("the stream ends within a frame".into());
    }
    Ok(())
}

/// Nanoseconds. What it takes to free what was kept is not among them.
fn pass(stream: &[u8], chunk_size: usize, keep: bool) -> Result<u128, Box<dyn Error>> {
    let start = Instant::now();
    if !keep {
        decode(stream, chunk_size, |payload| drop(black_box(payload)))?;
        return Ok(start.elapsed().as_nanos());
    }
    let mut all = Vec::new();
    decode(stream, chunk_size, |payload| all.push(payload))?;
    let time = start.elapsed();
    drop(black_box(all));
    Ok(time.as_nanos())
}

/// How many payloads there are, and Adler-32 of the frames that they were.
fn check(stream: &[u8], chunk_size: usize) -> Result<(usize, u32), Box<dyn Error>> {
    let (mut count, mut low, mut high) = (0, 1u32, 0u32);
    decode(stream, chunk_size, |payload| {
        count += 1;
        for byte in (payload.len() as u32).to_be_bytes().iter().chain(payload.iter()) {
            low = (low + u32::from(*byte)) % 65521;
            high = (high + low) % 65521;
        }
    })?;
    Ok((count, high << 16 | low))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, chunk_size, mode, warmup, passes] = &arguments[..] else {
        return Err("usage: decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES".into());
    };
    let (stream, chunk_size, keep) = (fs::read(path)?, chunk_size.parse()?, mode == "kept");
    let (count, adler32) = check(&stream, chunk_size)?;
    for _ in 0..warmup.parse()? {
        pass(&stream, chunk_size, keep)?;
    }
    let times = (0..passes.parse()?)
        .map(|_| pass(&stream, chunk_size, keep))
        .collect::<Result<Vec<_>, _>>()?;
    println!("{{\"count\": {count}, \"adler32\": {adler32}, \"ns\": {times:?}}}");
    Ok(())
}
