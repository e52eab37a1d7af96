// Makes what KubeEdge's own code makes when an edge joins, for test/unit/test_join_*.c. Run with the module file of
// test/peers/edge beside it: go run . FOLDER
package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"time"

	certutil "k8s.io/client-go/util/cert"

	"github.com/kubeedge/kubeedge/pkg/security/certs"
	"github.com/kubeedge/kubeedge/pkg/security/token"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	write := func(name string, bytes []byte) {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), bytes, 0o644); err != nil {
			panic(err)
		}
	}
	const years = time.Hour * 24 * 364 * 100

	cas, pairs := certs.GetCAHandler(certs.CAHandlerTypeX509), certs.GetHandler(certs.HandlerTypeX509)
	caKey := must(cas.GenPrivateKey())
	ca := must(cas.NewSelfSigned(caKey))
	write("ca.der", ca.Bytes)
	write("ca.key.der", caKey.DER())

	serverKey := must(pairs.GenPrivateKey())
	server := must(pairs.SignCerts(certs.SignCertsOptionsWithCA(certutil.Config{
		CommonName: "KubeEdge", Organization: []string{"KubeEdge"},
		Usages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		AltNames: certutil.AltNames{DNSNames: []string{"hub.example.com"}, IPs: []net.IP{net.ParseIP("192.0.2.1")}},
	}, ca.Bytes, caKey.DER(), must(serverKey.Signer()).Public(), years)))
	write("server.der", server.Bytes)
	write("server.key.der", serverKey.DER())

	edgeKey := must(pairs.GenPrivateKey())
	csr := must(pairs.CreateCSR(pkix.Name{
		Country: []string{"CN"}, Organization: []string{"system:nodes"}, Locality: []string{"Hangzhou"},
		Province: []string{"Zhejiang"}, CommonName: "system:node:edge-1",
	}, edgeKey, nil))
	write("edge-1.csr.der", csr.Bytes)
	edge := must(pairs.SignCerts(certs.SignCertsOptionsWithCSR(csr.Bytes, ca.Bytes, caKey.DER(),
		[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, 365*24*time.Hour)))
	write("edge-1.der", edge.Bytes)

	// A token of a far future: 12 h refresh is 24 h, which no vector survives.
	write("token.txt", []byte(must(token.Create(ca.Bytes, caKey.DER(), 12*365*20))))
}
