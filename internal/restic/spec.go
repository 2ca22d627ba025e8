// Package restic keeps snapshots of Consul servers in a restic repository. It renders the
// CronJobs and Jobs that do it, which is pure, runs them, and says what came of it.
package restic

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// DefaultImage is restic's own image. 0.17.1 is the first release that tells a wrong
// password and a locked repository apart by exit codes
// (restic.readthedocs.io/en/stable/075_scripting.html).
//
// The digest is that of the index for all architectures that the tag has led to: what runs with the password of the repository
// does not change when the tag does. "docker buildx imagetools inspect docker.io/restic/restic:0.17.3" shows it.
const DefaultImage = "docker.io/restic/restic:0.17.3@sha256:8f5a62b422a2cb1277ea0dd6e826fe1acf649e5b9f02d60e5268d5fd1976255a"

// FormerDefaultImage was the default of earlier versions of the provider.
const FormerDefaultImage = "docker.io/restic/restic:0.17.3"

// DefaultHistory is how many Jobs are kept where nothing else is said.
const DefaultHistory = 3

// Spec is what is declared of one schedule.
type Spec struct {
	// Name of the schedule among those of its cluster, a DNS label.
	Name string `json:"name"`
	// Schedule in the five fields of cron, and the IANA time zone that it is meant in, ""
	// for that of the Kubernetes control plane.
	Schedule string `json:"schedule"`
	TimeZone string `json:"time_zone,omitempty"`
	// Suspend lets no backup start.
	Suspend    bool       `json:"suspend,omitempty"`
	Repository Repository `json:"repository"`
	Retention  Retention  `json:"retention"`
	// Prune removes what was forgotten, Check looks for damage, and Drill restores the latest
	// backup into a server that is thrown away.
	Prune Prune `json:"prune,omitzero"`
	Check Check `json:"check,omitzero"`
	Drill Drill `json:"drill,omitzero"`
	// Image of restic.
	Image string `json:"image"`
	// Deadline is how long one backup, and each of the other tasks, may take.
	Deadline time.Duration `json:"deadline"`
	// History is how many Jobs of each task are kept that succeeded, and how many that failed; 0 is DefaultHistory.
	History int32 `json:"history,omitempty"`
	// Resources of each container, but for the server of a drill, and what is added to the labels and annotations of
	// the pods (server.JobSettings).
	Resources      *server.Resources `json:"resources,omitempty"`
	PodLabels      map[string]string `json:"pod_labels,omitempty"`
	PodAnnotations map[string]string `json:"pod_annotations,omitempty"`
	// Placement of the pods; nil for that of the servers.
	Placement *Placement `json:"placement,omitempty"`
}

// Placement is on which nodes pods run, and how important they are.
type Placement struct {
	NodeSelector  map[string]string   `json:"node_selector,omitempty"`
	Tolerations   []corev1.Toleration `json:"tolerations,omitempty"`
	PriorityClass string              `json:"priority_class,omitempty"`
}

// JobSettings are what is declared of the pods of the schedule's Jobs.
func (s Spec) JobSettings() server.JobSettings {
	return server.JobSettings{Resources: s.Resources, PodLabels: s.PodLabels, PodAnnotations: s.PodAnnotations}
}

// Equal reports whether two Specs say the same.
func (s Spec) Equal(other Spec) bool { return s.annotation() == other.annotation() }

// annotation is what ParseSpec reads.
func (s Spec) annotation() string {
	text, _ := json.Marshal(s) // texts and numbers
	return string(text)
}

// Prune is when a repository is pruned; the zero Prune is never.
type Prune struct {
	Schedule string `json:"schedule"`
}

// Check is when a repository is checked; the zero Check is never.
type Check struct {
	Schedule string `json:"schedule"`
	// Parts is in how many checks all data is read.
	Parts int64 `json:"parts"`
}

// Drill is when a restore is tried; the zero Drill is never.
type Drill struct {
	Schedule string `json:"schedule"`
	// SentinelKey of the key/value store must be there after the restore, "" for none.
	SentinelKey string `json:"sentinel_key,omitempty"`
}

// Repository is where snapshots are stored. Either URL or Claim is set.
type Repository struct {
	// URL as restic writes it, without credentials, such as "s3:https://host/bucket/path".
	URL string `json:"url,omitempty"`
	// Claim is a PersistentVolumeClaim in the cluster's namespace.
	Claim string `json:"claim,omitempty"`
	// Secret in the cluster's namespace whose keys are the environment variables that
	// restic takes credentials from, RESTIC_PASSWORD among them.
	Secret string `json:"secret"`
	// ServiceAccount is as what Jobs run that work on it; the zero one is that of the servers.
	ServiceAccount ServiceAccount `json:"service_account,omitzero"`
	// Options are what restic takes as "--option", such as "s3.bucket-lookup".
	Options map[string]string `json:"options,omitempty"`
}

// Retention is how many snapshots are kept, as "restic forget" means it: those that any
// rule keeps. 0 and "" are no rule.
type Retention struct {
	Last    int64 `json:"last,omitempty"`
	Hourly  int64 `json:"hourly,omitempty"`
	Daily   int64 `json:"daily,omitempty"`
	Weekly  int64 `json:"weekly,omitempty"`
	Monthly int64 `json:"monthly,omitempty"`
	Yearly  int64 `json:"yearly,omitempty"`
	// Within keeps all that is younger, such as "2y5m7d3h".
	Within string `json:"within,omitempty"`
}

// IsEmpty reports whether there is no rule.
func (r Retention) IsEmpty() bool { return r == Retention{} }

// flags are those of "restic forget".
func (r Retention) flags() (flags []string) {
	for _, rule := range []struct {
		name string
		n    int64
	}{{"last", r.Last}, {"hourly", r.Hourly}, {"daily", r.Daily}, {"weekly", r.Weekly}, {"monthly", r.Monthly}, {"yearly", r.Yearly}} {
		if rule.n != 0 {
			flags = append(flags, fmt.Sprintf("--keep-%s=%d", rule.name, rule.n))
		}
	}
	if r.Within != "" {
		flags = append(flags, "--keep-within="+r.Within)
	}
	return flags
}

var within = regexp.MustCompile(`^([0-9]+[ymdh])+$`)

// CheckWithin returns an error that says why a text is no age as restic takes it.
func CheckWithin(text string) error {
	if !within.MatchString(text) {
		return fmt.Errorf("%q is no age: write years, months, days and hours, such as \"2y5m7d3h\"", text)
	}
	return nil
}

// CheckSchedule returns an error that says why Kubernetes would not take a schedule. It is
// read by the library that Kubernetes reads it with.
func CheckSchedule(schedule string) error {
	if strings.Contains(schedule, "TZ") {
		return errors.New("the time zone is an attribute of its own (time_zone)")
	}
	if _, err := cron.ParseStandard(schedule); err != nil {
		return fmt.Errorf("%q is no schedule: %w", schedule, err)
	}
	return nil
}

// Overdue reports whether a schedule should have run twice since a backup was stored, the second time
// more than an hour ago. zone is that of the schedule, "" for UTC.
func Overdue(schedule, zone string, last, now time.Time) bool {
	s, err := cron.ParseStandard(schedule)
	location, zoneErr := time.LoadLocation(zone) // "" is UTC
	if err != nil || zoneErr != nil {
		return false
	}
	second := s.Next(s.Next(last.In(location)))
	return !second.IsZero() && second.Add(time.Hour).Before(now)
}

// intervalOf is the time between two runs of a schedule, somewhere in it.
func intervalOf(schedule string) time.Duration {
	s, err := cron.ParseStandard(schedule)
	if err != nil {
		return 24 * time.Hour
	}
	first := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	return max(s.Next(first).Sub(first), time.Minute) // a schedule that never comes has none
}

// DefaultSchedule is once an hour, at a minute that follows from what is backed up: many
// clusters do not start all at once.
func DefaultSchedule(namespace, cluster, name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace + "/" + cluster + "/" + name))
	return fmt.Sprintf("%d * * * *", h.Sum32()%60)
}

// Kind is a kind of store, and what it takes.
type Kind struct {
	// Scheme begins the URL, as in "s3:".
	Scheme string
	// Credentials are the sets of keys of which the Secret must have one whole set.
	Credentials [][]string
	// role is what it takes instead where the Jobs have a role; nil where the store knows none.
	role *role
}

// role is how restic gets credentials of a cloud for what it runs as (getCredentials in internal/backend/s3/s3.go, open in
// internal/backend/azure/azure.go, and getStorageClient in internal/backend/gs/gs.go of restic 0.17.3).
type role struct {
	// needs are keys that the Secret must have all the same, and may those that it can have without the rest of their set.
	needs, may []string
	// tokenEnv is the variable with the file of a projected token, "" where that is named elsewhere; withToken are the keys
	// that say whose token it is.
	tokenEnv  string
	withToken []string
}

// kinds are the stores that restic knows, but for rclone, which takes a program of its own
// (restic.readthedocs.io/en/stable/030_preparing_a_new_repo.html).
func kinds() []Kind {
	return []Kind{
		{"s3", [][]string{{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}, &role{
			tokenEnv: "AWS_WEB_IDENTITY_TOKEN_FILE", withToken: []string{"AWS_ROLE_ARN"},
		}},
		{"azure", [][]string{
			{"AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY"}, {"AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_SAS"},
			{"AZURE_ACCOUNT_NAME", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"},
		}, &role{
			needs: []string{"AZURE_ACCOUNT_NAME"}, may: []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID"},
			tokenEnv: "AZURE_FEDERATED_TOKEN_FILE", withToken: []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID"},
		}},
		{"gs", [][]string{{"GOOGLE_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS"}, {"GOOGLE_ACCESS_TOKEN"}}, &role{
			may: []string{"GOOGLE_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS"}, withToken: []string{"GOOGLE_APPLICATION_CREDENTIALS"},
		}},
		{"b2", [][]string{{"B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"}}, nil},
		{"swift", [][]string{{"OS_AUTH_URL"}, {"ST_AUTH"}}, nil},
		{"rest", nil, nil},
		{"sftp", [][]string{{sshKey, knownHostsKey}}, nil},
	}
}

// KindOf returns the kind of a repository's URL, and an error that says what is wrong
// with it. The error does not quote a password.
func KindOf(repository string) (Kind, error) {
	scheme, rest, found := strings.Cut(repository, ":")
	all := kinds()
	i := slices.IndexFunc(all, func(k Kind) bool { return k.Scheme == scheme })
	if !found || i < 0 || rest == "" {
		var names []string
		for _, k := range all {
			names = append(names, k.Scheme+":")
		}
		return Kind{}, fmt.Errorf("it must begin with one of %s, as restic writes repositories; a folder of a volume is repository.volume_claim", strings.Join(names, ", "))
	}
	switch {
	case scheme == "sftp":
		if !sftpURL.MatchString(repository) {
			return Kind{}, errors.New("a repository on an SFTP server is sftp:user@host:/path, or sftp://user@host:port//path")
		}
	case strings.Contains(rest, "://"):
		u, err := url.Parse(rest)
		switch {
		case err != nil:
			return Kind{}, errors.New("what follows " + scheme + ": is no URL")
		case u.User != nil:
			return Kind{}, errors.New("it holds a user or a password: put them into the Secret, for a REST server as RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD")
		case u.Host == "":
			return Kind{}, errors.New("it names no host")
		}
	case scheme == "rest":
		return Kind{}, errors.New("what follows rest: must begin with http:// or https://")
	}
	return all[i], nil
}

// sftpURL is either way in which restic writes a folder of an SFTP server. A user has no password there: keys are what
// works without a person.
var sftpURL = regexp.MustCompile(`^sftp:([A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9.][A-Za-z0-9.-]*:.+|//[A-Za-z0-9._][A-Za-z0-9._-]*@([A-Za-z0-9.][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])(:[0-9]+)?/.+)$`)

// usesSSH reports whether a repository is on an SFTP server.
func (r Repository) usesSSH() bool { return strings.HasPrefix(r.URL, "sftp:") }

// CheckKeys returns an error that says what the Secret with the credentials lacks. keys are those
// that it has.
func CheckKeys(r Repository, keys []string) error {
	if !slices.Contains(keys, passwordKey) {
		return fmt.Errorf("it lacks the key %s, which encrypts the repository", passwordKey)
	}
	if r.URL == "" {
		return nil
	}
	kind, err := KindOf(r.URL)
	if err != nil || len(kind.Credentials) == 0 || r.Options[optionAnonymous] == "true" {
		return err
	}
	if r.ServiceAccount.isSet() && kind.role != nil {
		return kind.checkRole(r.ServiceAccount, keys)
	}
	var wanted []string
	for _, set := range kind.Credentials {
		if !slices.ContainsFunc(set, func(key string) bool { return !slices.Contains(keys, key) }) {
			return nil
		}
		wanted = append(wanted, strings.Join(set, " and "))
	}
	hint := ""
	if kind.role != nil {
		hint = "; where the Jobs get a role from the cloud instead, set repository.service_account"
	}
	return fmt.Errorf("it lacks what a repository %s: takes: the keys %s%s", kind.Scheme, strings.Join(wanted, ", or "), hint)
}

// checkRole returns an error that says what the Secret lacks where the Jobs have a role: no more than what says where the store is,
// but of static credentials either all or nothing.
func (k Kind) checkRole(account ServiceAccount, keys []string) error {
	needed := k.role.needs
	if account.TokenAudience != "" {
		needed = append(slices.Clone(needed), k.role.withToken...)
	}
	for _, key := range needed {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("it lacks the key %s, which a repository %s: takes also where the Jobs have a role", key, k.Scheme)
		}
	}
	for _, set := range k.Credentials {
		static := slices.DeleteFunc(slices.Clone(set), func(key string) bool { return slices.Contains(k.role.needs, key) || slices.Contains(k.role.may, key) })
		lacks := slices.DeleteFunc(slices.Clone(static), func(key string) bool { return slices.Contains(keys, key) })
		if len(lacks) > 0 && len(lacks) < len(static) {
			return fmt.Errorf("it has a part of static credentials, which restic prefers to a role: add %s, or remove the rest of %s", strings.Join(lacks, " and "), strings.Join(static, " and "))
		}
	}
	return nil
}

// ServiceAccount is as what Jobs run where a cloud gives a role to a ServiceAccount.
type ServiceAccount struct {
	// Name of one that exists. Otherwise one is made with Annotations.
	Name        string            `json:"name,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// TokenAudience mounts a token of it for this audience, "" mounts none.
	TokenAudience string `json:"token_audience,omitempty"`
}

func (a ServiceAccount) isSet() bool { return a.Name != "" || len(a.Annotations) > 0 }

// optionAnonymous lets restic ask S3 without credentials.
const optionAnonymous = "s3.unsafe-anonymous-auth"

var (
	optionName  = regexp.MustCompile(`^[a-z0-9]+\.[a-z0-9-]+$`)
	optionValue = regexp.MustCompile(`^[A-Za-z0-9._:/@+,=-]+$`)
)

// CheckOption returns an error that says why an extended option of restic cannot be set for a repository with this URL, "" for
// one on a volume. Which options there are depends on the version of restic (restic options).
func CheckOption(repository, name, value string) error {
	scheme, _, found := strings.Cut(repository, ":")
	if !found {
		scheme = "local"
	}
	switch {
	case !optionName.MatchString(name):
		return fmt.Errorf("%q is no option: write <kind of store>.<option>, such as \"s3.bucket-lookup\"", name)
	case !strings.HasPrefix(name, scheme+"."):
		return fmt.Errorf("%q is no option of this repository: those begin with %q", name, scheme+".")
	case name == "sftp.command", name == "sftp.args":
		return fmt.Errorf("%q is set by the provider, for the key and the host keys in the Secret", name)
	case !optionValue.MatchString(value):
		return fmt.Errorf("%q cannot be the value of the option %q: it takes letters, digits and . _ : / @ + , = -", value, name)
	}
	return nil
}

// sshKey and knownHostsKey are the keys of the Secret with the private key for an SFTP server, in OpenSSH's format, and with
// the public keys that the server may have. The first is that of Secrets of the type kubernetes.io/ssh-auth.
const (
	sshKey        = "ssh-privatekey"
	knownHostsKey = "known_hosts"
)

// passwordKey is the key of the Secret with the password of the repository.
const passwordKey = "RESTIC_PASSWORD"

// SnapshotTo is a repository as the servers' Spec has it.
func SnapshotTo(r Repository, image string) server.SnapshotTo {
	to := server.SnapshotTo{URL: r.URL, Claim: r.Claim, Secret: r.Secret, Image: image, ServiceAccount: r.ServiceAccount.Name, TokenAudience: r.ServiceAccount.TokenAudience}
	if len(r.Options) > 0 {
		text, _ := json.Marshal(r.Options) // strings
		to.Options = string(text)
	}
	return to
}

// FromSnapshotTo is the inverse of SnapshotTo.
func FromSnapshotTo(to server.SnapshotTo) Repository {
	r := Repository{URL: to.URL, Claim: to.Claim, Secret: to.Secret, ServiceAccount: ServiceAccount{Name: to.ServiceAccount, TokenAudience: to.TokenAudience}}
	_ = json.Unmarshal([]byte(to.Options), &r.Options) // what is no object is no option
	return r
}

// flags are the options as restic takes them, in one line. No value needs quotes (CheckOption).
func (r Repository) flags() string {
	var flags []string
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		flags = append(flags, "-o "+name+"="+r.Options[name])
	}
	return strings.Join(flags, " ")
}

// location is the repository as restic takes it.
func (r Repository) location() string { return cmp.Or(r.URL, "/repository") }
