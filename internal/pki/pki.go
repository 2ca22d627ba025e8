// Package pki makes certificate authorities and the certificates of servers. It does
// no I/O.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

// Algorithms are the kinds of private keys, by name.
var algorithms = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"ECDSA-P384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"RSA-2048":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"RSA-4096":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
}

// Algorithms lists the kinds of private keys that can be made.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms)) }

// algorithmOf is the name of the kind of a public key; "" is a kind that is not made here.
func algorithmOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA-P" + fmt.Sprint(k.Params().BitSize)
	case *rsa.PublicKey:
		return "RSA-" + fmt.Sprint(k.N.BitLen())
	}
	return ""
}

// backdate is how long before now certificates become valid, because clocks differ.
const backdate = 5 * time.Minute

// Pair is a certificate with its private key.
type Pair struct {
	// Chain is the certificate, followed by those that chain to a trusted one, without the trusted one.
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// Certificate is the first of the chain.
func (p Pair) Certificate() *x509.Certificate { return p.Chain[0] }

// Ends is when the first certificate of the chain expires.
func (p Pair) Ends() time.Time {
	return slices.MinFunc(p.Chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// Algorithm is the kind of the private key, as Algorithms names it.
func (p Pair) Algorithm() string { return algorithmOf(p.Certificate().PublicKey) }

// PEM returns the chain and the private key (PKCS #8).
func (p Pair) PEM() (chain, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the private key: %w", err)
	}
	return EncodeCertificates(p.Chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// NewCA makes a self-signed certificate authority. It can sign certificates of servers, but no other
// authorities.
func NewCA(algorithm, commonName string, validity time.Duration, now time.Time) (Pair, error) {
	return sign(algorithm, &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}, nil)
}

// NewServer makes a certificate of a server, which is also a client of others, signed by an authority. Its
// chain contains the certificates of the authority that are not self-signed. It expires with the authority at
// the latest.
func NewServer(ca Pair, algorithm, commonName string, dns, ips []string, validity time.Duration, now time.Time) (Pair, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(validity),
		DNSNames:    dns,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range ips {
		ip := net.ParseIP(text)
		if ip == nil {
			return Pair{}, fmt.Errorf("%q is not an IP address", text)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	if end := ca.Ends(); t.NotAfter.After(end) {
		t.NotAfter = end
	}
	p, err := sign(algorithm, t, &ca)
	for _, c := range ca.Chain {
		if err == nil && !selfSigned(c) {
			p.Chain = append(p.Chain, c)
		}
	}
	return p, err
}

// sign makes a key and signs the certificate of a template, with the key itself if there is no authority.
func sign(algorithm string, t *x509.Certificate, ca *Pair) (Pair, error) {
	generate, ok := algorithms[algorithm]
	if !ok {
		return Pair{}, fmt.Errorf("the key algorithm %q does not exist", algorithm)
	}
	key, err := generate()
	if err != nil {
		return Pair{}, fmt.Errorf("making a private key: %w", err)
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, fmt.Errorf("making a serial number: %w", err)
	}
	parent, signer := t, key
	if ca != nil {
		parent, signer = ca.Certificate(), ca.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, fmt.Errorf("signing a certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	return Pair{Chain: []*x509.Certificate{c}, Key: key}, err
}

// selfSigned reports whether no other certificate vouches for a certificate.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

// ParsePair reads a certificate with its chain to a trusted one, and its private key. The errors quote neither.
func ParsePair(chain, key []byte) (Pair, error) {
	var p Pair
	var err error
	if p.Chain, err = ParseCertificates(chain); err != nil {
		return Pair{}, err
	}
	block, rest := pem.Decode(key)
	for block != nil && !strings.HasSuffix(block.Type, "PRIVATE KEY") { // openssl ecparam writes parameters before it
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return Pair{}, errors.New("there is no private key in PEM")
	}
	if p.Key, err = parseKey(block.Bytes); err != nil {
		return Pair{}, err
	}
	public, ok := p.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.Certificate().PublicKey) {
		return Pair{}, errors.New("the private key does not belong to the certificate")
	}
	return p, nil
}

// parseKey reads a private key in any of the usual encodings.
func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if s, ok := k.(crypto.Signer); err == nil && ok {
		return s, nil
	}
	return nil, errors.New("the private key cannot be read: it must be in PKCS #8, PKCS #1, or SEC 1 format, and not encrypted")
}

// ParseCertificates reads one or more certificates.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate cannot be read")
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate in PEM")
	}
	return all, nil
}

// EncodeCertificates returns certificates as PEM.
func EncodeCertificates(all []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range all {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // into memory
	}
	return b.Bytes()
}

// Pool returns a pool of trusted certificates.
func Pool(trusted []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range trusted {
		pool.AddCert(c)
	}
	return pool
}

// CheckCA returns an error that says why a pair cannot be the authority of servers with these names, whose certificates are
// trusted through one of the roots. It issues such a certificate and lets two servers connect with it. The first name is the
// one by which agents know a server.
func CheckCA(ca Pair, roots []*x509.Certificate, dns, ips []string, now time.Time) error {
	c := ca.Certificate()
	switch {
	case !c.IsCA || !c.BasicConstraintsValid:
		return errors.New("the certificate does not belong to a certificate authority (basic constraint CA:TRUE)")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the certificate may not sign other certificates (key usage keyCertSign)")
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate expired on %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	_, err := c.Verify(
		x509.VerifyOptions{
			Roots:         Pool(roots),
			Intermediates: Pool(ca.Chain[1:]),
			CurrentTime:   now,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		},
	)
	if err != nil {
		return fmt.Errorf("the certificate does not chain to one in ca.crt: %w", err)
	}
	trial, err := NewServer(ca, "ECDSA-P256", dns[0], dns, ips, time.Hour, now)
	if err != nil {
		return fmt.Errorf("the authority cannot issue a certificate: %w", err)
	}
	if err := CheckPeers(trial, roots, dns[0], now); err != nil {
		return fmt.Errorf("servers would refuse each other with the certificates that the authority issues: %w", err)
	}
	return nil
}

// usages are those that the certificate of a server must allow.
var usages = []struct {
	x509.ExtKeyUsage
	name string
}{{x509.ExtKeyUsageServerAuth, "serverAuth"}, {x509.ExtKeyUsageClientAuth, "clientAuth"}}

// CheckChain returns an error that says why a certificate of a server, which is also a client of others, does not chain to
// one of the roots.
func CheckChain(server Pair, roots []*x509.Certificate, now time.Time) error {
	for _, usage := range usages {
		_, err := server.Certificate().Verify(x509.VerifyOptions{
			Roots: Pool(roots), Intermediates: Pool(server.Chain[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage.ExtKeyUsage},
		})
		if err == nil {
			continue
		}
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
			return fmt.Errorf(
				"the extended key usage of %q has no %s: servers are clients of each other, so a certificate must have both serverAuth and "+
					"clientAuth, or, if it belongs to an authority, no extended key usage",
				lacking(append(slices.Clone(server.Chain), roots...), usage.ExtKeyUsage),
				usage.name,
			)
		}
		return fmt.Errorf("the certificate is not a server and client certificate that chains to one in ca.crt: %w", err)
	}
	return nil
}

// lacking is the subject of the first certificate that is restricted to other usages.
func lacking(all []*x509.Certificate, usage x509.ExtKeyUsage) string {
	for _, c := range all {
		restricted := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
		if restricted && !slices.Contains(c.ExtKeyUsage, usage) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return c.Subject.String()
		}
	}
	return all[0].Subject.String()
}

// peersTimeout bounds a handshake in memory.
const peersTimeout = 10 * time.Second

// CheckPeers returns an error that says why two servers with this certificate, which trust the roots and know each other by
// a name, would refuse each other. They perform a handshake in memory, as agents do with verify_incoming, verify_outgoing,
// and verify_server_hostname.
func CheckPeers(server Pair, roots []*x509.Certificate, name string, now time.Time) error {
	if err := CheckChain(server, roots, now); err != nil {
		return err
	}
	own := tls.Certificate{PrivateKey: server.Key}
	for _, c := range server.Chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	config := tls.Config{
		Certificates: []tls.Certificate{
			own,
		}, RootCAs: Pool(roots), ClientCAs: Pool(roots), ClientAuth: tls.RequireAndVerifyClientCert, ServerName: name,
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, Time: func() time.Time { return now },
	}
	listening, dialing := net.Pipe()
	for _, end := range []net.Conn{listening, dialing} {
		_ = end.SetDeadline(time.Now().Add(peersTimeout)) // which a pipe has
	}
	accepted := make(chan error, 1)
	go func() {
		accepted <- tls.Server(listening, &config).Handshake() //nolint:noctx // the pipe has a deadline
		_ = listening.Close()
	}()
	client := tls.Client(dialing, &config)
	dialErr := client.Handshake() //nolint:noctx // the pipe has a deadline
	if dialErr == nil {
		_, _ = client.Read(make([]byte, 1)) // in TLS 1.3 the refusal comes after the client's part
	}
	_ = dialing.Close()
	acceptErr := <-accepted
	switch {
	case dialErr != nil:
		return fmt.Errorf("a server refuses another server that it connects to: %w", dialErr)
	case acceptErr != nil:
		return fmt.Errorf("a server refuses another server that connects to it: %w", acceptErr)
	}
	return nil
}

// CheckServer says why a certificate is not that of a server with these names, signed by an authority.
func CheckServer(server Pair, ca Pair, dns, ips []string) error {
	c := server.Certificate()
	var addresses []string
	for _, ip := range c.IPAddresses {
		addresses = append(addresses, ip.String())
	}
	for i, text := range ips {
		ips = slices.Clone(ips)
		ips[i] = net.ParseIP(text).String()
	}
	switch {
	case !bytes.Equal(c.AuthorityKeyId, ca.Certificate().SubjectKeyId) || c.CheckSignatureFrom(ca.Certificate()) != nil:
		return errors.New("another certificate authority has signed it")
	case !sameSet(c.DNSNames, dns) || !sameSet(addresses, ips):
		return errors.New("it has other names")
	}
	return nil
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a))), slices.Compact(slices.Sorted(slices.Values(b))))
}
