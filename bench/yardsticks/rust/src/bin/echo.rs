//! tokio's echo: `Framed` with tokio-util's `LengthDelimitedCodec`, on a runtime of one thread.
//!
//!     echo       prints its port on 127.0.0.1, then serves until it is killed
//!
//! `forward` flushes when no more frames are there: the answers to one read leave in one write.

use futures_util::{StreamExt, TryStreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

async fn echo(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (sink, payloads) = Framed::new(stream, LengthDelimitedCodec::new()).split();
    payloads.map_ok(|payload| payload.freeze()).forward(sink).await
}

async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream)); // who goes away by a reset ends its task with an error, and nothing else
    }
}

fn main() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(serve())
}
