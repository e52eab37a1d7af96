// kube is one program that holds the three parts of a Kubernetes control plane the tests need:
//
//	kube apiserver FLAGS...
//	kube controller-manager FLAGS...
//	kube scheduler FLAGS...
//
// Each takes the flags of the component it is named after. One program is linked once and takes
// a third of the disk space and of the linker's time that three would take.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// The components register options and feature gates in process-wide tables when their command is
// made, so only the command that is asked for may be made.
func component(name string) *cobra.Command {
	switch name {
	case "apiserver":
		return apiserver.NewAPIServerCommand()
	case "controller-manager":
		return controllers.NewControllerManagerCommand()
	case "scheduler":
		return scheduler.NewSchedulerCommand()
	}
	return nil
}

func main() {
	var command *cobra.Command
	if len(os.Args) > 1 {
		command = component(os.Args[1])
	}
	if command == nil {
		fmt.Fprintln(os.Stderr, "usage: kube apiserver|controller-manager|scheduler FLAGS...")
		os.Exit(2)
	}
	// cobra and the components' own checks look at the arguments of the process.
	os.Args = append([]string{"kube-" + os.Args[1]}, os.Args[2:]...)
	os.Exit(cli.Run(command))
}
