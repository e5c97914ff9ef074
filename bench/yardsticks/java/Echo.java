import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.ServerChannel;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.epoll.EpollEventLoopGroup;
import io.netty.channel.epoll.EpollServerSocketChannel;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.LengthFieldBasedFrameDecoder;
import io.netty.handler.codec.LengthFieldPrepender;
import java.net.InetSocketAddress;

/**
 * Netty's echo, on one event loop: the native one over epoll where it can be had, else NIO.
 *
 * <pre>Echo       prints its port on 127.0.0.1, then serves until it is killed</pre>
 *
 * It flushes when a read is complete: the answers to one read leave in one system call.
 */
public final class Echo {
    private static final int MAX_SIZE = 16 << 20;
    private static final int BACKLOG = 4096;

    @Sharable
    private static final class Answer extends ChannelInboundHandlerAdapter {
        @Override
        public void channelRead(ChannelHandlerContext context, Object payload) {
            context.write(payload, context.voidPromise());
        }

        @Override
        public void channelReadComplete(ChannelHandlerContext context) {
            context.flush();
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            context.close(); // the load ends its connections by a reset
        }
    }

    public static void main(String[] arguments) throws Exception {
        boolean epoll = Epoll.isAvailable();
        EventLoopGroup group = epoll ? new EpollEventLoopGroup(1) : new NioEventLoopGroup(1);
        Class<? extends ServerChannel> kind = epoll ? EpollServerSocketChannel.class : NioServerSocketChannel.class;
        Answer answer = new Answer();
        LengthFieldPrepender prepender = new LengthFieldPrepender(4);
        ChannelInitializer<Channel> initializer =
                new ChannelInitializer<>() {
                    @Override
                    protected void initChannel(Channel channel) {
                        channel.pipeline()
                                .addLast(new LengthFieldBasedFrameDecoder(MAX_SIZE, 0, 4, 0, 4), prepender, answer);
                    }
                };
        Channel listener =
                new ServerBootstrap()
                        .group(group)
                        .channel(kind)
                        .option(ChannelOption.SO_BACKLOG, BACKLOG)
                        .childOption(ChannelOption.TCP_NODELAY, true)
                        .childHandler(initializer)
                        .bind("127.0.0.1", 0)
                        .sync()
                        .channel();
        System.out.println(((InetSocketAddress) listener.localAddress()).getPort());
    }
}
