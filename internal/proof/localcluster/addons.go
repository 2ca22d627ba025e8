package localcluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

//go:embed manifests/addons.yaml.tmpl
var addonsTemplate string

// StorageClass is the name of the default class for volumes.
const StorageClass = "local-path"

// addonsLimit is generous because all images are on the nodes: only a very busy machine needs it.
const addonsLimit = 3 * time.Minute

// addons returns the manifest of cluster DNS and of the volume provisioner.
func (c *Cluster) addons() ([]byte, error) {
	t, err := template.New("addons").Option("missingkey=error").Parse(addonsTemplate)
	if err != nil {
		return nil, err
	}
	type nodeVolumes struct{ Name, Volumes string }
	values := struct {
		CoreDNSImage, LocalPathImage, BusyboxImage, DNSAddress string
		Nodes                                                  []nodeVolumes
	}{CoreDNSImage: coreDNSImage, LocalPathImage: localPathImage, BusyboxImage: BusyboxImage, DNSAddress: DNSAddress}
	for _, n := range nodes() {
		values.Nodes = append(values.Nodes, nodeVolumes{n.name, c.path(n.name, "volumes")})
	}
	var b bytes.Buffer
	err = t.Execute(&b, values)
	return b.Bytes(), err
}

// applyAddons applies the manifest of the addons by server-side apply.
func (c *Cluster) applyAddons(ctx context.Context) error {
	manifest, err := c.addons()
	if err != nil {
		return fmt.Errorf("rendering the addons: %w", err)
	}
	config, err := c.restConfig()
	if err != nil {
		return err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading the addons: %w", err)
		}
		kind := object.GroupVersionKind()
		name := kind.Kind + " " + strings.TrimPrefix(object.GetNamespace()+"/"+object.GetName(), "/")
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return fmt.Errorf("finding the resource of %s: %w", name, err)
		}
		resource := dynamic.ResourceInterface(objects.Resource(mapping.Resource))
		if object.GetNamespace() != "" {
			resource = objects.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
		if _, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "localcluster", Force: true}); err != nil {
			return fmt.Errorf("applying %s: %w", name, err)
		}
	}
}

// waitAddons waits until cluster DNS answers on every node and volumes can be provisioned.
func (c *Cluster) waitAddons(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return waitFor(ctx, "the addons", addonsLimit, func(ctx context.Context) error {
		dns, err := client.AppsV1().DaemonSets("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if dns.Status.ObservedGeneration < dns.Generation || dns.Status.NumberReady < nodeCount {
			return fmt.Errorf("%d of %d pods of coredns are ready", dns.Status.NumberReady, nodeCount)
		}
		volumes, err := client.AppsV1().Deployments("local-path-storage").Get(ctx, "local-path-provisioner", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if volumes.Status.ReadyReplicas < 1 {
			return errors.New("local-path-provisioner is not ready")
		}
		// Until then, pods cannot be created in the default namespace.
		_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// waitNodesReady waits until the named nodes exist and are Ready. If hope returns an error, waiting longer does not help.
func (c *Cluster) waitNodesReady(ctx context.Context, hope func() error, names ...string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return waitFor(ctx, "ready nodes", time.Minute, func(ctx context.Context) error {
		if err := hope(); err != nil {
			return giveUp(err)
		}
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		conditions := map[string]string{}
		for _, n := range list.Items {
			conditions[n.Name] = readiness(n)
		}
		var waiting []string
		for _, name := range names {
			if state, ok := conditions[name]; !ok {
				waiting = append(waiting, name+" has not joined")
			} else if state != "Ready" {
				waiting = append(waiting, name+": "+state)
			}
		}
		if len(waiting) > 0 {
			return errors.New(strings.Join(waiting, "; "))
		}
		return nil
	})
}

// readiness returns "Ready", or why a node is not ready.
func readiness(n corev1.Node) string {
	for _, condition := range n.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status == corev1.ConditionTrue {
			return "Ready"
		}
		return fmt.Sprintf("not ready (%s): %s", condition.Reason, condition.Message)
	}
	return "no condition yet"
}

// recipe identifies everything that a running cluster was made from: versions, flags, configuration, and manifests. A
// cluster with another recipe is replaced.
func (c *Cluster) recipe() string {
	h := sha256.New()
	for _, f := range recipeFamilies() {
		for _, name := range f.names() {
			key, err := f.key(name)
			fmt.Fprintf(h, "%s %s %v\n", name, key, err)
		}
	}
	specs := c.controlPlaneSpecs()
	for _, n := range nodes() {
		specs = append(specs, c.nodeSpecs(n)...)
		files, err := c.nodeFiles(n)
		fmt.Fprintf(h, "%v %v\n", files, err) // fmt prints maps in the order of their keys
	}
	for _, s := range specs {
		fmt.Fprintf(h, "%s %q\n", s.name, s.argv)
	}
	manifest, err := c.addons()
	fmt.Fprintf(h, "%s %v %s\n", manifest, err, imageLayout)
	return hex.EncodeToString(h.Sum(nil))
}
