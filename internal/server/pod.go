package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Pod is what pods have in common: those of servers and, except for Separate and Extra, those of Jobs. The zero Pod is the
// default.
type Pod struct {
	// RunAs is the user and the groups of the containers; nil is DefaultRunAs.
	RunAs *RunAs
	// Separate gives each container of a server its own process namespace.
	Separate bool
	// PullSecrets are the Secrets with the credentials for the registries of images.
	PullSecrets []string
	// Extra is what the pods of servers have in addition, as JSON that CheckExtraPod accepts; "" for nothing.
	Extra string
}

// RunAs is the user and the groups that containers run as. The platform chooses values that are nil, for example OpenShift from
// the range of a namespace.
type RunAs struct{ User, Group, FSGroup *int64 }

// DefaultRunAs are the user and the group of the official image (hashicorp/docker-consul).
func DefaultRunAs() RunAs {
	return RunAs{User: new(int64(consulUser)), Group: new(int64(consulGroup)), FSGroup: new(int64(consulGroup))}
}

// Effective is the user and the groups, with the default filled in.
func (p Pod) Effective() RunAs {
	if p.RunAs == nil {
		return DefaultRunAs()
	}
	return *p.RunAs
}

// NewRunAs is the inverse of Pod.Effective.
func NewRunAs(r RunAs) *RunAs {
	same := func(a, b *int64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	if d := DefaultRunAs(); same(r.User, d.User) && same(r.Group, d.Group) && same(r.FSGroup, d.FSGroup) {
		return nil
	}
	return &r
}

// securityContext passes the Pod Security standard "restricted".
func (p Pod) securityContext() *corev1.PodSecurityContext {
	run := p.Effective()
	c := &corev1.PodSecurityContext{
		RunAsNonRoot:   new(true),
		RunAsUser:      run.User,
		RunAsGroup:     run.Group,
		FSGroup:        run.FSGroup,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if run.FSGroup != nil {
		c.FSGroupChangePolicy = new(corev1.FSGroupChangeOnRootMismatch)
	}
	return c
}

func (p Pod) pullSecrets() (all []corev1.LocalObjectReference) {
	for _, name := range p.PullSecrets {
		all = append(all, corev1.LocalObjectReference{Name: name})
	}
	return all
}

// apply adds what is declared for the pods of servers to the one that the provider renders.
func (p Pod) apply(spec *corev1.PodSpec) {
	spec.ImagePullSecrets = p.pullSecrets()
	extra, err := parseExtraPod(p.Extra)
	if err != nil {
		return // refused earlier
	}
	spec.Volumes = append(spec.Volumes, extra.Volumes...)
	// Before the server reads its data.
	spec.InitContainers = slices.Concat(extra.InitContainers, spec.InitContainers)
	consul := &spec.Containers[0]
	consul.Env = slices.Concat(consul.Env, extra.Env)
	consul.EnvFrom = append(consul.EnvFrom, extra.EnvFrom...)
	consul.VolumeMounts = append(consul.VolumeMounts, extra.VolumeMounts...)
	spec.Containers = append(spec.Containers, extra.Containers...)
}

// extraPod is what the pods of servers may have in addition, in the words of the Kubernetes API. Env, EnvFrom, and VolumeMounts
// are those of the container in which Consul runs.
type extraPod struct {
	Volumes        []corev1.Volume        `json:"volumes,omitempty"`
	InitContainers []corev1.Container     `json:"initContainers,omitempty"`
	Containers     []corev1.Container     `json:"containers,omitempty"`
	Env            []corev1.EnvVar        `json:"env,omitempty"`
	EnvFrom        []corev1.EnvFromSource `json:"envFrom,omitempty"`
	VolumeMounts   []corev1.VolumeMount   `json:"volumeMounts,omitempty"`
}

// extraPodExample is an example.
const extraPodExample = `jsonencode({ containers = [{ name = "exporter", image = "example.com/exporter:1" }] })`

func parseExtraPod(text string) (p extraPod, err error) {
	if text == "" {
		return p, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, extraPodError(text, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return p, errors.New("more than one JSON value")
	}
	return p, nil
}

// extraPodError says what is wrong with JSON that cannot be decoded, in the words of the Kubernetes API.
func extraPodError(text string, err error) error {
	var wrong *json.UnmarshalTypeError
	field, unknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("must be a JSON object, for example %s", extraPodExample)
	case errors.As(err, &wrong):
		return fmt.Errorf("%s must not be a %s in the Kubernetes API", wrong.Field, wrong.Value)
	case unknown:
		return fmt.Errorf(
			"the Kubernetes API has no field %s there: the object may have volumes, initContainers, containers, and, for the container of "+
				"Consul, env, envFrom, and volumeMounts",
			field,
		)
	case !json.Valid([]byte(text)):
		return fmt.Errorf("not valid JSON: %w; write it with jsonencode, for example %s", err, extraPodExample)
	default:
		return err
	}
}

// CheckExtraPod returns an error that says why the pods of servers cannot have these additions: they are not JSON of the
// Kubernetes API, or they collide with what the provider renders. The API server checks the rest.
func CheckExtraPod(text string) error {
	p, err := parseExtraPod(text)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace([]byte(text))) == 0 || strings.TrimSpace(text) == "null" {
		return fmt.Errorf("must be a JSON object, for example %s", extraPodExample)
	}
	volumes := map[string]bool{}
	for _, name := range ownVolumes() {
		volumes[name] = true
	}
	var problems []string
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for i, v := range p.Volumes {
		switch at := fmt.Sprintf("volumes[%d].name", i); {
		case len(validation.IsDNS1123Label(v.Name)) > 0:
			refuse("%s: %q: %s", at, v.Name, validation.IsDNS1123Label(v.Name)[0])
		case volumes[v.Name]:
			refuse("%s: %q is taken: choose another name", at, v.Name)
		}
		volumes[v.Name] = true
	}
	containers := map[string]bool{ContainerName: true, WaitContainerName: true}
	for list, all := range map[string][]corev1.Container{"initContainers": p.InitContainers, "containers": p.Containers} {
		for i, c := range all {
			at := fmt.Sprintf("%s[%d]", list, i)
			switch {
			case len(validation.IsDNS1123Label(c.Name)) > 0:
				refuse("%s.name: %q: %s", at, c.Name, validation.IsDNS1123Label(c.Name)[0])
			case containers[c.Name]:
				refuse("%s.name: %q is taken: choose another name", at, c.Name)
			}
			containers[c.Name] = true
			if c.Image == "" {
				refuse("%s.image: missing", at)
			}
			for j, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					refuse("%s.volumeMounts[%d].name: there is no volume %q", at, j, m.Name)
				}
			}
		}
	}
	for i, e := range p.Env {
		if e.Name == "POD_NAME" || e.Name == "POD_IP" || strings.HasPrefix(e.Name, "CONSUL_") {
			refuse("env[%d].name: %q changes how the server's own scripts reach Consul: use extra_config for what the agent reads", i, e.Name)
		}
	}
	for i, m := range p.VolumeMounts {
		at := fmt.Sprintf("volumeMounts[%d]", i)
		if !volumes[m.Name] {
			refuse("%s.name: there is no volume %q", at, m.Name)
		}
		if slices.Contains(ownPaths(), strings.TrimRight(m.MountPath, "/")) {
			refuse("%s.mountPath: %q is reserved for the provider: choose another path", at, m.MountPath)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return errors.New(strings.Join(problems, "; "))
}

// ownVolumes are the names of the volumes that servers have, or may have later.
func ownVolumes() []string {
	return []string{dataVolume, configVolume, podVolume, "tmp", keyringVolume, tlsVolume}
}

// ownPaths are the paths where they are mounted.
func ownPaths() []string {
	return []string{"", "/consul", dataDir, configDir, podDir, "/tmp", keyringDir, tlsDir}
}
