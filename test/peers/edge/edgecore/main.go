// edgecore is a real KubeEdge node without containers: EdgeHub, Edged and MetaManager as they are
// released, over a container runtime that only pretends. KubeEdge's own edgemark does the same;
// this one runs many times on one machine, because every path and port is a flag, and it takes
// certificates made beforehand.
//
// One process is one node: beehive, EdgeHub's configuration and the database are process-wide.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/kubeedge/beehive/pkg/core"
	"github.com/kubeedge/kubeedge/edge/pkg/edged"
	"github.com/kubeedge/kubeedge/edge/pkg/edgehub"
	"github.com/kubeedge/kubeedge/edge/pkg/metamanager"
	"github.com/kubeedge/kubeedge/edge/pkg/metamanager/dao"
	"github.com/spf13/pflag"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"
)

func main() {
	node := addFlags(pflag.CommandLine)
	klog.InitFlags(nil)
	pflag.CommandLine.AddGoFlagSet(flag.CommandLine)
	pflag.Parse()
	if err := node.complete(); err != nil {
		fmt.Fprintln(os.Stderr, "edgecore:", err)
		os.Exit(2)
	}

	logs.InitLogs()
	defer logs.FlushLogs()
	config := node.config()
	pretendRuntime(node.runtimeEndpoint())

	// MetaManager's services take the database handle when they are registered.
	dao.Init(config.DataBase.DataSource, config.Modules.MetaManager)
	edged.Register(config.Modules.Edged)
	edgehub.Register(config.Modules.EdgeHub, node.name)
	metamanager.Register(config.Modules.MetaManager)
	core.Run()
}
