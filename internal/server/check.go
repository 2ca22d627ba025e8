package server

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// checkScript lets Consul check a configuration.
//
//go:embed check.sh
var checkScript string

const (
	// CheckContainerName is the container of the Job of CheckJob.
	CheckContainerName = "check"
	// CheckRefused is the exit code of that container if Consul refuses the configuration.
	CheckRefused = 1

	// CheckDeadline ends a Job that no apply waits for anymore. It leaves time to pull the image.
	CheckDeadline = 5 * time.Minute
	checkTTL      = time.Minute

	loopback = "127.0.0.1"
	// maxCheck is the length of a configuration that fits into an environment variable (MAX_ARG_STRLEN of Linux).
	maxCheck = 100 << 10
)

// NeedsCheck reports whether Consul has to check the configuration of a spec before servers get it: what the
// provider renders is valid by construction, and running servers have accepted what they run. before is the spec
// that runs, or the zero Spec if none runs.
func NeedsCheck(before, s Spec) bool {
	return s.ExtraConfig != "" && (ConfigVersion(before) != ConfigVersion(s) || before.Image != s.Image)
}

// CheckLabels are on the Job of CheckJob, and on its pod.
func CheckLabels(cluster string) map[string]string {
	l := OwnerLabels(cluster)
	l[LabelComponent] = "check"
	return l
}

// CheckJob renders the Job in which the Consul of a spec checks its configuration. It has a pod of its own, even if servers
// with the same image run: a second Consul in one of their pods might use the memory that the server needs. The
// configuration is in the environment, so that no ConfigMap is needed, and so no rights and no object that has to be
// removed. The name has a digest of everything that the result depends on: a Job that an interrupted apply left behind has
// the same name.
func CheckJob(s Spec) *batchv1.Job {
	config, trial := newAgentConfig(s), newAgentConfig(s)
	for _, c := range []*agentConfig{config, trial} {
		c.set("retry_join", []string{})
		c.set("bind_addr", loopback)
		c.set("client_addr", loopback)
	}
	for _, path := range []string{"tls", "addresses", "ports.https"} { // the certificates may not exist yet
		trial.remove(path)
	}
	c := JobContainer(s, CheckContainerName, s.Image)
	c.Command, c.Args = []string{"/bin/sh", "-c", checkScript}, []string{"sh", "/tmp"}
	for _, v := range [][2]string{{"CONFIG", marshalConfig(config)}, {"TRIAL", marshalConfig(trial)}, {"EXTRA", s.ExtraConfig}} {
		c.Env = append(c.Env, corev1.EnvVar{Name: v[0], Value: strings.ReplaceAll(v[1], "$", "$$")}) // Kubernetes expands $(…)
	}
	c.VolumeMounts = []corev1.VolumeMount{{Name: dataVolume, MountPath: dataDir}, {Name: "tmp", MountPath: "/tmp"}}
	template := JobPod(s, CheckLabels(s.Name))
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	template.Spec.Volumes = []corev1.Volume{{Name: dataVolume, VolumeSource: empty}, {Name: "tmp", VolumeSource: empty}}
	template.Spec.Containers = []corev1.Container{c}
	m := meta(s, s.Name+"-check-"+shortHash([]byte(compactJSON(template)))[:8])
	m.Labels = merged(s.Labels, CheckLabels(s.Name))
	return &batchv1.Job{
		ObjectMeta: m,
		Spec: batchv1.JobSpec{
			BackoffLimit:            new(int32(0)),
			ActiveDeadlineSeconds:   new(int64(CheckDeadline.Seconds())),
			TTLSecondsAfterFinished: new(int32(checkTTL.Seconds())),
			Template:                template,
		},
	}
}

// FitsCheck reports whether the configuration of a spec is small enough for CheckJob.
func FitsCheck(s Spec) bool { return len(s.ExtraConfig) <= maxCheck }

var (
	// environment matches errors that are not about a configuration but about where it was checked: a server may
	// have volumes and a network that the check does not have.
	environment = regexp.MustCompile(`(?i)no such file or directory|permission denied|read-only file system|no such host|` +
		`connection refused|i/o timeout|network is unreachable|address already in use|cannot assign requested address|no space left`)
	logPrefix = regexp.MustCompile(`^\S+ \[ERROR\] +`)
)

// CheckWords finds in the log of a check why Consul refuses a configuration; "" if it does not.
func CheckWords(log string) string {
	var words []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		var entry struct {
			Level   string `json:"@level"`
			Message string `json:"@message"`
			Error   string `json:"error"`
		}
		text, isUI := strings.CutPrefix(line, "==> ")
		switch {
		case logPrefix.MatchString(line):
			words = append(words, logPrefix.ReplaceAllString(line, ""))
		case json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error":
			words = append(words, strings.TrimSpace(entry.Message+": "+entry.Error))
		case isUI && text != "" && !strings.HasPrefix(text, "Starting Consul agent") && !strings.HasPrefix(text, "Log data will"):
			words = append(words, text)
		}
	}
	if len(words) == 0 { // consul validate, whose errors take several lines
		for line := range strings.Lines(strings.TrimPrefix(strings.TrimSpace(log), "Config validation failed: ")) {
			if line = strings.TrimSpace(line); line != "" {
				words = append(words, line)
			}
		}
	}
	text := strings.ReplaceAll(strings.Join(slices.Compact(words), "\n"), "extra.json", "extra_config")
	if environment.MatchString(text) {
		return ""
	}
	return text
}
