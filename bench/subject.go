// The measured process, as a Go program would be written: a goroutine for each connection, blocking calls.
//
// What it is asked, and what it prints, is as in subject.mjs.
//
//	subject --task receive|send|both|echo|lives --port N --ca FILE --total N --warm N --size N --connections N [--resume]
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const readSize = 64 * 1024

var (
	task        = flag.String("task", "", "")
	port        = flag.Int("port", 0, "")
	ca          = flag.String("ca", "", "")
	total       = flag.Int64("total", 0, "")
	warm        = flag.Int64("warm", 0, "")
	size        = flag.Int("size", 0, "")
	connections = flag.Int("connections", 1, "")
	resume      = flag.Bool("resume", false, "")
)

func check(err error) {
	if err != nil {
		log.Fatal("Error: ", err)
	}
}

func request(words ...any) []byte {
	text := fmt.Sprintln(words...)
	return []byte(fmt.Sprintf("%-64s", text[:len(text)-1]))
}

func write(conn *tls.Conn, bytes []byte) {
	_, err := conn.Write(bytes)
	check(err)
}

func receive(conn *tls.Conn, left int64) {
	buffer := make([]byte, readSize)
	for left > 0 {
		got, err := conn.Read(buffer)
		left -= int64(got)
		if left > 0 {
			check(err)
		}
	}
}

func send(conn *tls.Conn, left int64, message []byte) {
	for ; left > 0; left -= int64(len(message)) {
		write(conn, message)
	}
}

func work(conn *tls.Conn, amount int64, message []byte) {
	switch *task {
	case "receive":
		write(conn, request("source", amount, len(message)))
		receive(conn, amount)
	case "send":
		write(conn, request("sink", amount))
		send(conn, amount, message)
		receive(conn, 1)
	case "both":
		write(conn, request("both", amount, len(message)))
		var sent sync.WaitGroup
		sent.Add(1)
		go func() {
			defer sent.Done()
			send(conn, amount, message)
		}()
		receive(conn, amount+1)
		sent.Wait()
	case "echo":
		write(conn, request("echo", amount, len(message)))
		answer := make([]byte, len(message))
		for ; amount > 0; amount-- {
			write(conn, message)
			_, err := io.ReadFull(conn, answer)
			check(err)
		}
	default:
		log.Fatal("Error: no task ", *task)
	}
}

// together runs as many at once as there are connections.
func together(one func(i int)) {
	var all sync.WaitGroup
	for i := 0; i < *connections; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			one(i)
		}(i)
	}
	all.Wait()
}

// cpu says how many seconds this process has computed.
func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func main() {
	flag.Parse()
	pem, err := os.ReadFile(*ca)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if *resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	dial := func() *tls.Conn {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", *port), config)
		check(err)
		return conn
	}
	// Sends close_notify, and reads to the peer's.
	shut := func(conn *tls.Conn) {
		check(conn.CloseWrite())
		_, err := io.Copy(io.Discard, conn)
		check(err)
		check(conn.Close())
	}

	var conns []*tls.Conn
	message := make([]byte, *size)
	once := func(amount int64) {
		share := amount / int64(len(conns))
		together(func(i int) { work(conns[i], share, message) })
	}
	if *task == "lives" {
		// The first life is for its session.
		shut(dial())
		once = func(amount int64) {
			left := amount
			together(func(int) {
				for atomic.AddInt64(&left, -1) >= 0 {
					conn := dial()
					if *resume && !conn.ConnectionState().DidResume {
						log.Fatal("Error: not resumed")
					}
					shut(conn)
				}
			})
		}
	} else {
		for i := 0; i < *connections; i++ {
			conns = append(conns, dial())
		}
	}
	once(*warm)
	before, start := cpu(), time.Now()
	once(*total)
	wall := time.Since(start).Seconds()
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"amount": *total, "wall": wall, "cpu": cpu() - before,
	}))
}
