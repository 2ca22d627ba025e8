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
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// PodDialer opens connections to the ports of one pod through the Kubernetes
// API server (the port-forward subresource). All connections share one upgraded
// connection to the API server, opened at the first Dial and again when it
// broke. It is safe for concurrent use.
type PodDialer struct {
	client    *Client
	namespace string
	pod       string

	handshake singleflight.Group
	request   atomic.Int64

	mu     sync.Mutex
	stream httpstream.Connection
}

// PodDialer returns a dialer for a pod. It connects to nothing.
func (c *Client) PodDialer(namespace, pod string) *PodDialer {
	return &PodDialer{client: c, namespace: namespace, pod: pod}
}

// Dial opens a connection to a port of the pod.
func (d *PodDialer) Dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := d.dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", d.namespace, d.pod, err)
	}
	return conn, nil
}

func (d *PodDialer) dial(ctx context.Context, port int) (net.Conn, error) {
	stream, request, err := d.connection(ctx)
	if err != nil {
		return nil, err
	}
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(request))
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	failures, err := stream.CreateStream(headers)
	if err != nil {
		d.drop(stream)
		return nil, fmt.Errorf("opening the error stream: %w", err)
	}
	_ = failures.Close() // nothing is written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := stream.CreateStream(headers)
	if err != nil {
		d.drop(stream)
		return nil, fmt.Errorf("opening the data stream: %w", err)
	}
	c := &podConn{Stream: data, pod: d.pod, failed: make(chan error, 1), remove: func() { stream.RemoveStreams(data, failures) }}
	go func() {
		// The kubelet reports here when nothing listens on the port.
		text, err := io.ReadAll(failures)
		switch {
		case len(text) > 0:
			c.failed <- errors.New(string(text))
			_ = data.Reset()
		case err != nil:
			c.failed <- err
		}
		close(c.failed)
	}()
	return c, nil
}

// connection returns the shared connection and the number of the next request.
// The handshake knows no context: it goes on without a caller who gives up, and
// the next one has its result.
func (d *PodDialer) connection(ctx context.Context) (httpstream.Connection, int, error) {
	select {
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	case r := <-d.handshake.DoChan("", func() (any, error) { return d.connect() }):
		if r.Err != nil {
			return nil, 0, r.Err
		}
		stream, _ := r.Val.(httpstream.Connection)
		return stream, int(d.request.Add(1)), nil
	}
}

// connect opens the shared connection unless there is one.
func (d *PodDialer) connect() (httpstream.Connection, error) {
	if stream := d.open(); stream != nil {
		return stream, nil
	}
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
	// WebSockets pass proxies that SPDY does not; older API servers know SPDY alone.
	dialer := portforward.NewFallbackDialerForStreaming(overWebSocket, overSPDY, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	stream, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream = stream
	return stream, nil
}

// open returns the shared connection if it is open.
func (d *PodDialer) open() httpstream.Connection {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream == nil {
		return nil
	}
	select {
	case <-d.stream.CloseChan():
		d.stream = nil
	default:
	}
	return d.stream
}

func (d *PodDialer) drop(stream httpstream.Connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream == stream {
		d.stream = nil
	}
	_ = stream.Close()
}

// Close closes the shared connection.
func (d *PodDialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream == nil {
		return nil
	}
	err := d.stream.Close()
	d.stream = nil
	return err
}

// podConn makes a net.Conn of the data stream of one port-forward request.
// Deadlines are left to the HTTP client's contexts: streams have none.
type podConn struct {
	httpstream.Stream
	pod    string
	failed chan error
	remove func()
}

func (c *podConn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if err != nil {
		select {
		case failure := <-c.failed:
			if failure != nil {
				return n, failure
			}
		default:
		}
	}
	return n, err
}

func (c *podConn) Close() error {
	err := c.Stream.Reset()
	c.remove()
	return err
}

type podAddr string

func (podAddr) Network() string  { return "port-forward" }
func (a podAddr) String() string { return string(a) }

func (c *podConn) LocalAddr() net.Addr              { return podAddr("local") }
func (c *podConn) RemoteAddr() net.Addr             { return podAddr(c.pod) }
func (c *podConn) SetDeadline(time.Time) error      { return nil }
func (c *podConn) SetReadDeadline(time.Time) error  { return nil }
func (c *podConn) SetWriteDeadline(time.Time) error { return nil }
