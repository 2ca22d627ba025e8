package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// PodDialer opens connections to the ports of one pod through the Kubernetes
// API server (the port-forward subresource). It is safe for concurrent use.
//
// Every connection is a port-forward of its own. One port-forward could carry many connections, but they would
// not be independent. Each end has five workers for the frames of all of them, and a frame that nobody reads
// stops its worker (handleDataFrame in github.com/moby/spdystream); every fifth stream then hangs, which shows
// as 30 s until "Timeout occurred" (kubernetes/kubectl#1368). Such a frame is, on the node, a request to a port
// where nobody listens (until containerd 1.6.22, 1.7.3 and 2.1.0), and here a response that is not read yet.
type PodDialer struct {
	client    *Client
	namespace string
	pod       string
}

// PodDialer returns a dialer for a pod. It connects to nothing.
func (c *Client) PodDialer(namespace, pod string) *PodDialer {
	return &PodDialer{client: c, namespace: namespace, pod: pod}
}

// Dial opens a connection to a port of the pod. It succeeds even if no process listens there: in that case, the
// first Read fails, and its error says so.
func (d *PodDialer) Dial(ctx context.Context, port int) (net.Conn, error) {
	if d.client.Dial != nil {
		return d.client.Dial(ctx, d.namespace, d.pod, port)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() { // the handshake does not support a context
		conn, err := d.dial(port)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, d.wrap(r.err)
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, d.wrap(ctx.Err())
	}
}

func (d *PodDialer) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("port-forward to pod %s/%s: %w", d.namespace, d.pod, err)
}

func (d *PodDialer) dial(port int) (net.Conn, error) {
	forward, err := d.forward()
	if err != nil {
		return nil, err
	}
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0") // the only one
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	failures, err := forward.CreateStream(headers)
	if err != nil {
		_ = forward.Close()
		return nil, fmt.Errorf("opening the error stream: %w", err)
	}
	_ = failures.Close() // nothing is written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := forward.CreateStream(headers)
	if err != nil {
		_ = forward.Close()
		return nil, fmt.Errorf("opening the data stream: %w", err)
	}
	return &podConn{Stream: data, dialer: d, forward: forward, failure: sync.OnceValue(func() error {
		text, err := io.ReadAll(failures)
		if len(text) > 0 {
			err = errors.New(string(text))
		}
		return d.wrap(err)
	})}, nil
}

// forward opens a port-forward.
func (d *PodDialer) forward() (httpstream.Connection, error) {
	url := d.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(d.namespace).Name(d.pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(d.client.config)
	if err != nil {
		return nil, err
	}
	overSPDY := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	overWebSocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, d.client.config)
	if err != nil {
		return nil, err
	}
	// WebSockets pass proxies that SPDY does not pass; older API servers only support SPDY.
	dialer := portforward.NewFallbackDialerForStreaming(overWebSocket, overSPDY, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	forward, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	return forward, err
}

// podConn makes a net.Conn from a port-forward with one data stream. Deadlines are left to the contexts of the
// HTTP client, because streams have none.
type podConn struct {
	httpstream.Stream
	dialer  *PodDialer
	forward httpstream.Connection
	// failure waits for the end of the error stream and returns what the kubelet
	// wrote to it.
	failure func() error
}

func (c *podConn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if err != nil {
		// The reason, such as a connection refused, comes after the end.
		if failure := c.failure(); failure != nil {
			err = failure
		}
	}
	return n, err
}

func (c *podConn) Close() error { return c.forward.Close() }

type podAddr string

func (podAddr) Network() string  { return "port-forward" }
func (a podAddr) String() string { return string(a) }

func (c *podConn) LocalAddr() net.Addr              { return podAddr("local") }
func (c *podConn) RemoteAddr() net.Addr             { return podAddr(c.dialer.pod) }
func (c *podConn) SetDeadline(time.Time) error      { return nil }
func (c *podConn) SetReadDeadline(time.Time) error  { return nil }
func (c *podConn) SetWriteDeadline(time.Time) error { return nil }
