package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kubeedge/kubeedge/edge/pkg/edged"
	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/component-base/featuregate"
	remote "k8s.io/cri-client/pkg"
	"k8s.io/cri-client/pkg/fake"
	"k8s.io/klog/v2"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	cadvisor "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	container "k8s.io/kubernetes/pkg/kubelet/container/testing"
	"k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"
)

// pretendRuntime makes Edged start its kubelet over a container runtime that keeps its containers
// in memory, reached over a real CRI socket at `endpoint`, so that a test can ask it too.
func pretendRuntime(endpoint string) {
	edged.DefaultKubeletDeps = func(s *options.KubeletServer, _ featuregate.FeatureGate) (*kubelet.Dependencies, error) {
		return dependencies(s, endpoint)
	}
	// The kubelet's own start wants cgroups, cadvisor and root; below it is where the work starts.
	edged.DefaultRunLiteKubelet = func(ctx context.Context, s *options.KubeletServer,
		deps *kubelet.Dependencies, _ featuregate.FeatureGate) error {
		return kubeletapp.RunKubelet(ctx, s, deps)
	}
}

func dependencies(s *options.KubeletServer, endpoint string) (*kubelet.Dependencies, error) {
	runtime := fake.NewFakeRemoteRuntime()
	// A socket left over from an earlier run of the same node would be in the way.
	if err := os.RemoveAll(strings.TrimPrefix(endpoint, "unix://")); err != nil {
		return nil, err
	}
	if err := runtime.Start(endpoint); err != nil {
		return nil, fmt.Errorf("container runtime: %w", err)
	}
	tracer := noop.NewTracerProvider()
	logger := klog.Background()
	service, err := remote.NewRemoteRuntimeService(endpoint, 15*time.Second, tracer, &logger)
	if err != nil {
		return nil, fmt.Errorf("connection to the container runtime: %w", err)
	}
	return &kubelet.Dependencies{
		RemoteRuntimeService: service,
		RemoteImageService:   runtime.ImageService,
		CAdvisorInterface:    &cadvisor.Fake{NodeName: s.HostnameOverride},
		ContainerManager:     cm.NewStubContainerManager(),
		OSInterface:          &container.FakeOS{},
		OOMAdjuster:          oom.NewFakeOOMAdjuster(),
		Mounter:              &mount.FakeMounter{},
		HostUtil:             hostutil.NewFakeHostUtil(nil),
		Subpather:            &subpath.FakeSubpath{},
		VolumePlugins:        volumePlugins(),
		// RunKubelet expects these three from the caller and does not check.
		TracerProvider:            tracer,
		PodStartupLatencyTracker:  util.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: util.NewNodeStartupLatencyTracker(),
	}, nil
}

func volumePlugins() (all []volume.VolumePlugin) {
	for _, probed := range [][]volume.VolumePlugin{
		configmap.ProbeVolumePlugins(),
		downwardapi.ProbeVolumePlugins(),
		emptydir.ProbeVolumePlugins(),
		hostpath.ProbeVolumePlugins(volume.VolumeConfig{}),
		projected.ProbeVolumePlugins(),
		secret.ProbeVolumePlugins(),
	} {
		all = append(all, probed...)
	}
	return all
}
