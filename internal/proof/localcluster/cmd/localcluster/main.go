// Command localcluster runs a disposable three-node Kubernetes on this machine. See package localcluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
)

const usage = `usage: localcluster COMMAND

  up [-kubeconfig PATH] [-consul VERSIONS]
                         make the cluster run; also write its kubeconfig to PATH, and print the path;
                         VERSIONS, separated by commas, are the Consul versions to build and load (default: all that the tests run)
  down                   remove the cluster and all its traces
  status                 say what runs
  kubeconfig             print the path of the administrator's kubeconfig
  kubectl ARGUMENT...    run the cluster's kubectl
  cli [-minimum VERSION] print the path of terraform or tofu; builds OpenTofu if neither of that version or later is on the PATH
  add-consul VERSION     build a Consul version and load its image
  add-backup             build restic and an S3 server and load their images
  load FILE              load an image from a tar file into all nodes
  cut NODE, heal NODE    cut a node off from the network, and connect it again
  stop NODE, start NODE  stop a node as a power cut would, and start it again
`

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := execute(ctx, args)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && len(args) > 0 && args[0] == "kubectl":
		return exit.ExitCode()
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		return 2
	case err != nil:
		fmt.Fprintln(os.Stderr, "localcluster:", err)
		return 1
	}
	return 0
}

// errUsage asks run to explain the command line.
var errUsage = errors.New("usage")

func execute(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	command, args := args[0], args[1:]
	cluster, err := localcluster.New(os.Stderr)
	if err != nil {
		return err
	}
	onArgument := func(f func(context.Context, string) error) error {
		if len(args) != 1 {
			return errUsage
		}
		return f(ctx, args[0])
	}
	switch command {
	case "up":
		return up(ctx, cluster, args)
	case "down":
		return cluster.Down(ctx)
	case "status":
		status, err := cluster.Status(ctx)
		if err != nil {
			return err
		}
		return status.Write(os.Stdout)
	case "kubeconfig":
		fmt.Println(cluster.Kubeconfig())
		return nil
	case "kubectl":
		kubectl := exec.CommandContext(ctx, cluster.KubectlPath(), args...)
		kubectl.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig())
		kubectl.Stdin, kubectl.Stdout, kubectl.Stderr = os.Stdin, os.Stdout, os.Stderr
		return kubectl.Run()
	case "cli":
		return cli(ctx, args)
	case "add-consul":
		return onArgument(cluster.AddConsulVersion)
	case "add-backup":
		return cluster.AddBackupImages(ctx)
	case "load":
		return onArgument(cluster.LoadImage)
	case "cut":
		return onArgument(cluster.CutNode)
	case "heal":
		return onArgument(cluster.HealNode)
	case "stop":
		return onArgument(cluster.StopNode)
	case "start":
		return onArgument(cluster.StartNode)
	default:
		return errUsage
	}
}

func up(ctx context.Context, cluster *localcluster.Cluster, args []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "also write the administrator's kubeconfig to this `path`")
	consul := flags.String(
		"consul",
		strings.Join(localcluster.ConsulVersions(), ","),
		"build and load only these Consul `versions`, separated by commas",
	)
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return errUsage
	}
	// Unlike Split, this returns no version for an empty list: destroying needs no Consul.
	versions := strings.FieldsFunc(*consul, func(r rune) bool { return r == ',' })
	if err := cluster.UpWith(ctx, versions...); err != nil {
		return err
	}
	path := cluster.Kubeconfig()
	if *kubeconfig != "" {
		var err error
		if path, err = filepath.Abs(*kubeconfig); err != nil {
			return err
		}
		if err := cluster.WriteKubeconfig(path); err != nil {
			return err
		}
	}
	fmt.Println(path)
	return nil
}

func cli(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cli", flag.ContinueOnError)
	minimum := flags.String("minimum", localcluster.MinimumCLI, "the oldest `version` that will do")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return errUsage
	}
	path, _, err := localcluster.CLI(ctx, os.Stderr, *minimum)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}
