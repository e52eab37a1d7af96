package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kubeedge/api/apis/componentconfig/edgecore/v1alpha2"
	"github.com/kubeedge/kubeedge/pkg/version"
	"github.com/spf13/pflag"
)

// node is what the flags say; everything else is EdgeCore's default.
type node struct {
	name, rootDir, nodeIP            string
	websocketServer, httpServer      string
	token, ca, cert, key             string
	labels                           map[string]string
	heartbeat, queryTimeout          int32
	readOnlyPort, leaseSeconds       int32
	reportEvents, rotateCertificates bool
}

func addFlags(flags *pflag.FlagSet) *node {
	n := &node{}
	flags.StringVar(&n.name, "name", "", "name of the node (required)")
	flags.StringVar(&n.rootDir, "root-dir", "", "folder for everything the node writes (required)")
	flags.StringVar(&n.nodeIP, "node-ip", "", "address of the node; the kubelet chooses without it")
	flags.StringVar(&n.websocketServer, "websocket-server", "", "HOST:PORT of CloudHub (required)")
	flags.StringVar(&n.httpServer, "http-server", "", "https://HOST:PORT where certificates come from")
	flags.StringVar(&n.token, "token", "", "join token; not needed with a certificate")
	flags.StringVar(&n.ca, "ca", "", "CA certificate (ROOT-DIR/ca.crt)")
	flags.StringVar(&n.cert, "cert", "", "certificate of the node (ROOT-DIR/edge.crt)")
	flags.StringVar(&n.key, "key", "", "its key (ROOT-DIR/edge.key)")
	flags.StringToStringVar(&n.labels, "node-labels", nil, "labels to register with, K=V,...")
	flags.Int32Var(&n.heartbeat, "heartbeat", 15, "seconds between EdgeHub's keepalives")
	flags.Int32Var(&n.queryTimeout, "remote-query-timeout", 60, "seconds MetaManager waits for an answer")
	flags.Int32Var(&n.leaseSeconds, "lease-duration", 40, "seconds; the lease is renewed each quarter")
	flags.Int32Var(&n.readOnlyPort, "read-only-port", 10350, "kubelet's port on the loopback; Edged polls it")
	flags.BoolVar(&n.reportEvents, "report-events", false, "send Events")
	flags.BoolVar(&n.rotateCertificates, "rotate-certificates", true, "renew the certificate before it ends")
	return n
}

func (n *node) complete() error {
	if n.name == "" || n.rootDir == "" || n.websocketServer == "" {
		return errors.New("--name, --root-dir and --websocket-server are required")
	}
	dir, err := filepath.Abs(n.rootDir)
	if err != nil {
		return fmt.Errorf("--root-dir: %w", err)
	}
	n.rootDir = dir
	for _, file := range []struct {
		path *string
		name string
	}{{&n.ca, "ca.crt"}, {&n.cert, "edge.crt"}, {&n.key, "edge.key"}} {
		if *file.path == "" {
			*file.path = n.path(file.name)
		}
	}
	return os.MkdirAll(dir, 0o700)
}

func (n *node) path(name string) string {
	return filepath.Join(n.rootDir, name)
}

func (n *node) runtimeEndpoint() string {
	return "unix://" + n.path("cri.sock")
}

func (n *node) config() *v1alpha2.EdgeCoreConfig {
	config := v1alpha2.NewDefaultEdgeCoreConfig()
	config.EdgeCoreVersion = version.Get().String()
	config.DataBase.DataSource = n.path("edgecore.db")
	config.Modules.MetaManager.RemoteQueryTimeout = n.queryTimeout
	n.setHub(config.Modules.EdgeHub)
	n.setEdged(config.Modules.Edged)
	return config
}

func (n *node) setHub(hub *v1alpha2.EdgeHub) {
	hub.WebSocket.Server = n.websocketServer
	hub.HTTPServer = n.httpServer
	hub.Token = n.token
	hub.TLSCAFile = n.ca
	hub.TLSCertFile = n.cert
	hub.TLSPrivateKeyFile = n.key
	hub.Heartbeat = n.heartbeat
	hub.RotateCertificates = n.rotateCertificates
}

func (n *node) setEdged(e *v1alpha2.Edged) {
	on, off := true, false
	e.ReportEvent = n.reportEvents
	e.HostnameOverride = n.name
	e.NodeIP = n.nodeIP
	for key, value := range n.labels {
		e.NodeLabels[key] = value
	}
	e.RootDirectory = n.path("kubelet")

	kubelet := e.TailoredKubeletConfig
	kubelet.StaticPodPath = n.path("manifests")
	kubelet.PodLogsDir = n.path("logs")
	kubelet.VolumePluginDir = n.path("plugins")
	kubelet.ContainerRuntimeEndpoint = n.runtimeEndpoint()
	kubelet.ReadOnlyPort = n.readOnlyPort
	kubelet.NodeLeaseDurationSeconds = n.leaseSeconds
	kubelet.RegisterNode = &on
	// There are no containers, so nothing may be asked of cgroups or of the disk.
	kubelet.CgroupsPerQOS = &off
	kubelet.EnforceNodeAllocatable = nil
	kubelet.EnableControllerAttachDetach = &off
	kubelet.LocalStorageCapacityIsolation = &off
}
