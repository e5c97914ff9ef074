// Go's echo: a goroutine for each connection, bufio on both sides.
//
//	echo       prints its port on 127.0.0.1, then serves until it is killed
//
// It flushes when the reader's buffer is empty: the answers to one read leave in one write.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
)

const (
	headerSize = 4
	maxSize    = 16 << 20
	bufferSize = 64 << 10
)

func echo(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, bufferSize)
	writer := bufio.NewWriterSize(connection, bufferSize)
	for {
		header, err := reader.Peek(headerSize)
		if err != nil {
			return
		}
		size := binary.BigEndian.Uint32(header)
		if size > maxSize {
			return
		}
		writer.Write(header)
		reader.Discard(headerSize)
		payload := make([]byte, size)
		if _, err := io.ReadFull(reader, payload); err != nil {
			return
		}
		writer.Write(payload)
		if reader.Buffered() == 0 && writer.Flush() != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept() // TCP_NODELAY is Go's default
		if err != nil {
			log.Fatal(err)
		}
		go echo(connection)
	}
}
