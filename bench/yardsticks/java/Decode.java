import io.netty.buffer.ByteBuf;
import io.netty.buffer.PooledByteBufAllocator;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.embedded.EmbeddedChannel;
import io.netty.handler.codec.LengthFieldBasedFrameDecoder;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.StringJoiner;
import java.util.zip.Adler32;

/**
 * Netty's LengthFieldBasedFrameDecoder in an EmbeddedChannel: decodes a stream of frames, u32be, chunk by chunk.
 *
 * <pre>Decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES       see ../README.md</pre>
 *
 * One copy: from the chunk into a pooled direct buffer, as a channel's read would fill it. A payload is a retained slice
 * of that buffer, which lives as long as one of its slices; a handler behind the decoder releases or keeps it.
 */
public final class Decode {
    private static final int MAX_SIZE = 16 << 20;

    /** Counts what comes, and drops it. */
    private static class Dropping extends ChannelInboundHandlerAdapter {
        int count;

        @Override
        public void channelRead(ChannelHandlerContext context, Object payload) {
            count++;
            ((ByteBuf) payload).release();
        }
    }

    /** Keeps what comes. */
    private static final class Keeping extends ChannelInboundHandlerAdapter {
        final List<ByteBuf> all = new ArrayList<>();

        @Override
        public void channelRead(ChannelHandlerContext context, Object payload) {
            all.add((ByteBuf) payload);
        }
    }

    /** Makes the checksum of the frames that the payloads were. */
    private static final class Checking extends Dropping {
        final Adler32 checksum = new Adler32();

        @Override
        public void channelRead(ChannelHandlerContext context, Object payload) {
            ByteBuf bytes = (ByteBuf) payload;
            checksum.update(ByteBuffer.allocate(4).putInt(0, bytes.readableBytes()));
            checksum.update(bytes.nioBuffer());
            super.channelRead(context, payload);
        }
    }

    private static void decode(byte[] stream, int chunkSize, ChannelInboundHandlerAdapter handler) {
        EmbeddedChannel channel =
                new EmbeddedChannel(new LengthFieldBasedFrameDecoder(MAX_SIZE, 0, 4, 0, 4), handler);
        for (int pos = 0; pos < stream.length; pos += chunkSize) {
            int size = Math.min(chunkSize, stream.length - pos);
            channel.writeInbound(PooledByteBufAllocator.DEFAULT.directBuffer(size).writeBytes(stream, pos, size));
        }
        channel.finish();
    }

    /** Nanoseconds. Garbage is collected before, and what was kept is released after them. */
    private static long pass(byte[] stream, int chunkSize, boolean keep) {
        System.gc();
        Keeping keeping = new Keeping();
        long start = System.nanoTime();
        decode(stream, chunkSize, keep ? keeping : new Dropping());
        long time = System.nanoTime() - start;
        keeping.all.forEach(ByteBuf::release);
        return time;
    }

    public static void main(String[] arguments) throws Exception {
        byte[] stream = Files.readAllBytes(Path.of(arguments[0]));
        int chunkSize = Integer.parseInt(arguments[1]);
        boolean keep = arguments[2].equals("kept");
        Checking checking = new Checking();
        decode(stream, chunkSize, checking);
        StringJoiner times = new StringJoiner(", ");
        for (int pass = -Integer.parseInt(arguments[3]); pass < Integer.parseInt(arguments[4]); pass++) {
            long time = pass(stream, chunkSize, keep);
            if (pass >= 0) times.add(Long.toString(time));
        }
        System.out.printf(
                "{\"count\": %d, \"adler32\": %d, \"ns\": [%s]}%n",
                checking.count, checking.checksum.getValue(), times);
    }
}
