// Go's bufio: decodes a stream of frames, u32be.
//
//	decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES       see ../README.md
//
// Two copies: from the chunk into the buffer of a bufio.Reader, whose size is that of a chunk, and from there into a
// slice of its own for each payload. The garbage collector has a goroutine, and a core if there is one.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/adler32"
	"io"
	"log"
	"os"
	"runtime"
	"strconv"
	"time"
)

const (
	headerSize = 4
	maxSize    = 16 << 20
)

// What is assigned to it is not optimized away.
var sink []byte

func decode(stream []byte, chunkSize int, handle func([]byte)) error {
	reader := bufio.NewReaderSize(bytes.NewReader(stream), chunkSize)
	for {
		header, err := reader.Peek(headerSize)
		if err == io.EOF && len(header) == 0 {
			return nil
		} else if err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(header)
		if size > maxSize {
			return fmt.Errorf("a frame of %d bytes", size)
		}
		reader.Discard(headerSize)
		payload := make([]byte, size)
		if _, err := io.ReadFull(reader, payload); err != nil {
			return err
		}
		handle(payload)
	}
}

// The time for one pass. Garbage of those before is collected first, on nobody's time.
func pass(stream []byte, chunkSize int, keep bool) (time.Duration, error) {
	runtime.GC()
	start := time.Now()
	if !keep {
		err := decode(stream, chunkSize, func(payload []byte) { sink = payload })
		return time.Since(start), err
	}
	var all [][]byte
	err := decode(stream, chunkSize, func(payload []byte) { all = append(all, payload) })
	elapsed := time.Since(start)
	runtime.KeepAlive(all)
	return elapsed, err
}

type report struct {
	Count   int     `json:"count"`
	Adler32 uint32  `json:"adler32"`
	NS      []int64 `json:"ns"`
}

func run(path string, chunkSize int, keep bool, warmup, passes int) (it report, err error) {
	stream, err := os.ReadFile(path)
	if err != nil {
		return
	}
	checksum := adler32.New() // of the frames that the payloads were
	err = decode(stream, chunkSize, func(payload []byte) {
		it.Count++
		var header [headerSize]byte
		binary.BigEndian.PutUint32(header[:], uint32(len(payload)))
		checksum.Write(header[:])
		checksum.Write(payload)
	})
	it.Adler32 = checksum.Sum32()
	for i := -warmup; i < passes && err == nil; i++ {
		var elapsed time.Duration
		elapsed, err = pass(stream, chunkSize, keep)
		if i >= 0 {
			it.NS = append(it.NS, elapsed.Nanoseconds())
		}
	}
	return
}

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES")
	}
	var numbers [3]int
	for i, text := range []string{os.Args[2], os.Args[4], os.Args[5]} {
		number, err := strconv.Atoi(text)
		if err != nil {
			log.Fatal(err)
		}
		numbers[i] = number
	}
	it, err := run(os.Args[1], numbers[0], os.Args[3] == "kept", numbers[1], numbers[2])
	if err != nil {
		log.Fatal(err)
	}
	json.NewEncoder(os.Stdout).Encode(it)
}
