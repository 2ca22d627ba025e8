// Package restic keeps snapshots of Consul servers in a restic repository. It renders the
// CronJobs and Jobs for this, without side effects, runs them, and reports the outcome.
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

// DefaultImage is restic's own image. 0.17.1 is the first release with different exit codes
// for a wrong password and a locked repository
// (restic.readthedocs.io/en/stable/075_scripting.html).
//
// The digest is that of the index for all architectures that the tag pointed to. If somebody moves the tag, the image that gets
// the password of the repository stays the same. "docker buildx imagetools inspect docker.io/restic/restic:0.17.3" shows it.
const DefaultImage = "docker.io/restic/restic:0.17.3@sha256:8f5a62b422a2cb1277ea0dd6e826fe1acf649e5b9f02d60e5268d5fd1976255a"

// FormerDefaultImage was the default of earlier versions of the provider.
const FormerDefaultImage = "docker.io/restic/restic:0.17.3"

// DefaultHistory is how many Jobs are kept by default.
const DefaultHistory = 3

// Spec is the declared configuration of one schedule.
type Spec struct {
	// Name of the schedule among those of its cluster, a DNS label.
	Name string `json:"name"`
	// Schedule in the five fields of cron, and its IANA time zone, "" for that of the
	// Kubernetes control plane.
	Schedule string `json:"schedule"`
	TimeZone string `json:"time_zone,omitempty"`
	// Suspend prevents that backups and other tasks start.
	Suspend    bool       `json:"suspend,omitempty"`
	Repository Repository `json:"repository"`
	Retention  Retention  `json:"retention"`
	// Prune removes forgotten data, Check looks for damage, and Drill restores the latest
	// backup into a temporary server.
	Prune Prune `json:"prune,omitzero"`
	Check Check `json:"check,omitzero"`
	Drill Drill `json:"drill,omitzero"`
	// Image of restic.
	Image string `json:"image"`
	// Deadline is how long one run of any task may take.
	Deadline time.Duration `json:"deadline"`
	// History is how many successful Jobs, and how many failed Jobs, are kept for each task; 0 means DefaultHistory.
	History int32 `json:"history,omitempty"`
	// Resources of each container, except the server of a drill, and additional labels and annotations of the pods
	// (server.JobSettings).
	Resources      *server.Resources `json:"resources,omitempty"`
	PodLabels      map[string]string `json:"pod_labels,omitempty"`
	PodAnnotations map[string]string `json:"pod_annotations,omitempty"`
	// Placement of the pods; nil means the placement of the servers.
	Placement *Placement `json:"placement,omitempty"`
}

// Placement says on which nodes pods run, and with which priority.
type Placement struct {
	NodeSelector  map[string]string   `json:"node_selector,omitempty"`
	Tolerations   []corev1.Toleration `json:"tolerations,omitempty"`
	PriorityClass string              `json:"priority_class,omitempty"`
}

// JobSettings returns the declared settings for the pods of the Jobs.
func (s Spec) JobSettings() server.JobSettings {
	return server.JobSettings{Resources: s.Resources, PodLabels: s.PodLabels, PodAnnotations: s.PodAnnotations}
}

// Equal reports whether two Specs are the same.
func (s Spec) Equal(other Spec) bool { return s.annotation() == other.annotation() }

// annotation returns the text that ParseSpec reads.
func (s Spec) annotation() string {
	text, _ := json.Marshal(s) // texts and numbers
	return string(text)
}

// Prune says when a repository is pruned; the zero Prune means never.
type Prune struct {
	Schedule string `json:"schedule"`
}

// Check says when a repository is checked; the zero Check means never.
type Check struct {
	Schedule string `json:"schedule"`
	// Parts is the number of checks that together read all data.
	Parts int64 `json:"parts"`
}

// Drill says when a test restore runs; the zero Drill means never.
type Drill struct {
	Schedule string `json:"schedule"`
	// SentinelKey is a key in the key/value store that must exist after the restore, "" for none.
	SentinelKey string `json:"sentinel_key,omitempty"`
}

// Repository is where snapshots are stored. Either URL or Claim is set.
type Repository struct {
	// URL in the notation of restic, without credentials, such as "s3:https://host/bucket/path".
	URL string `json:"url,omitempty"`
	// Claim is a PersistentVolumeClaim in the cluster's namespace.
	Claim string `json:"claim,omitempty"`
	// Secret in the cluster's namespace. Its keys are the environment variables with the
	// credentials for restic, including RESTIC_PASSWORD.
	Secret string `json:"secret"`
	// ServiceAccount of the Jobs that work on the repository; the zero value means that of the servers.
	ServiceAccount ServiceAccount `json:"service_account,omitzero"`
	// Options for "restic --option", such as "s3.bucket-lookup".
	Options map[string]string `json:"options,omitempty"`
}

// Retention says how many snapshots are kept. As with "restic forget", a snapshot is kept
// if any rule keeps it. 0 and "" are no rule.
type Retention struct {
	Last    int64 `json:"last,omitempty"`
	Hourly  int64 `json:"hourly,omitempty"`
	Daily   int64 `json:"daily,omitempty"`
	Weekly  int64 `json:"weekly,omitempty"`
	Monthly int64 `json:"monthly,omitempty"`
	Yearly  int64 `json:"yearly,omitempty"`
	// Within keeps all younger snapshots, such as "2y5m7d3h".
	Within string `json:"within,omitempty"`
}

// IsEmpty reports whether there is no rule.
func (r Retention) IsEmpty() bool { return r == Retention{} }

// flags returns the flags of "restic forget".
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

// CheckWithin returns an error that says why a text is not an age in the notation of restic.
func CheckWithin(text string) error {
	if !within.MatchString(text) {
		return fmt.Errorf("%q is not an age: write years, months, days, and hours, such as \"2y5m7d3h\"", text)
	}
	return nil
}

// CheckSchedule returns an error that says why Kubernetes would not accept a schedule. It
// uses the same library as Kubernetes.
func CheckSchedule(schedule string) error {
	if strings.Contains(schedule, "TZ") {
		return errors.New("set the time zone in the attribute time_zone instead")
	}
	if _, err := cron.ParseStandard(schedule); err != nil {
		return fmt.Errorf("%q is not a schedule: %w", schedule, err)
	}
	return nil
}

// Overdue reports whether a schedule should have run twice since last, the second time more than an hour
// ago. zone is the time zone of the schedule, "" for UTC.
func Overdue(schedule, zone string, last, now time.Time) bool {
	s, err := cron.ParseStandard(schedule)
	location, zoneErr := time.LoadLocation(zone) // "" is UTC
	if err != nil || zoneErr != nil {
		return false
	}
	second := s.Next(s.Next(last.In(location)))
	return !second.IsZero() && second.Add(time.Hour).Before(now)
}

// intervalOf returns the time between two runs of a schedule, at some point in it.
func intervalOf(schedule string) time.Duration {
	s, err := cron.ParseStandard(schedule)
	if err != nil {
		return 24 * time.Hour
	}
	first := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	return max(s.Next(first).Sub(first), time.Minute) // a schedule that never runs has none
}

// DefaultSchedule is once an hour, at a minute that follows from the names, so that the
// backups of many clusters do not all start at once.
func DefaultSchedule(namespace, cluster, name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace + "/" + cluster + "/" + name))
	return fmt.Sprintf("%d * * * *", h.Sum32()%60)
}

// Kind is a kind of store, and the credentials that it needs.
type Kind struct {
	// Scheme begins the URL, as in "s3:".
	Scheme string
	// Credentials are sets of keys. The Secret must have all keys of one set.
	Credentials [][]string
	// role is what it needs instead if the Jobs have a role; nil if the store does not support roles.
	role *role
}

// role says how restic gets credentials from a cloud for its ServiceAccount (getCredentials in internal/backend/s3/s3.go, open in
// internal/backend/azure/azure.go, and getStorageClient in internal/backend/gs/gs.go of restic 0.17.3).
type role struct {
	// needs are keys that the Secret must still have; may are keys that it can have without the rest of their set.
	needs, may []string
	// tokenEnv is the variable with the file name of a projected token, "" if the file is named elsewhere; withToken are the
	// keys that say whose token it is.
	tokenEnv  string
	withToken []string
}

// kinds returns the stores that restic supports, except rclone, which needs another program
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

// KindOf returns the kind of a repository's URL, or an error that says what is wrong with
// the URL. The error does not quote a password.
func KindOf(repository string) (Kind, error) {
	scheme, rest, found := strings.Cut(repository, ":")
	all := kinds()
	i := slices.IndexFunc(all, func(k Kind) bool { return k.Scheme == scheme })
	if !found || i < 0 || rest == "" {
		var names []string
		for _, k := range all {
			names = append(names, k.Scheme+":")
		}
		return Kind{}, fmt.Errorf(
			"it must begin with one of %s, as restic writes repositories; for a volume, set repository.volume_claim instead",
			strings.Join(names, ", "),
		)
	}
	switch {
	case scheme == "sftp":
		if !sftpURL.MatchString(repository) {
			return Kind{}, errors.New("the URL of a repository on an SFTP server must be sftp:user@host:/path or sftp://user@host:port//path")
		}
	case strings.Contains(rest, "://"):
		u, err := url.Parse(rest)
		switch {
		case err != nil:
			return Kind{}, errors.New("what follows " + scheme + ": is not a URL")
		case u.User != nil:
			return Kind{}, errors.New(
				"it contains a user or a password: put them into the Secret instead, for a REST server as RESTIC_REST_USERNAME and " +
					"RESTIC_REST_PASSWORD",
			)
		case u.Host == "":
			return Kind{}, errors.New("it names no host")
		}
	case scheme == "rest":
		return Kind{}, errors.New("what follows rest: must begin with http:// or https://")
	}
	return all[i], nil
}

// sftpURL matches both notations of restic for a directory on an SFTP server. They allow no password: only keys work
// without a person.
var sftpURL = regexp.MustCompile(
	`^sftp:([A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9.][A-Za-z0-9.-]*:.+|//[A-Za-z0-9._][A-Za-z0-9._-]*@([A-Za-z0-9.][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])(:[0-9]+)?/.+)$`,
)

// usesSSH reports whether a repository is on an SFTP server.
func (r Repository) usesSSH() bool { return strings.HasPrefix(r.URL, "sftp:") }

// CheckKeys returns an error that says what the Secret with the credentials lacks. keys are the keys
// that it has.
func CheckKeys(r Repository, keys []string) error {
	if !slices.Contains(keys, passwordKey) {
		return fmt.Errorf("it lacks the key %s, the password that encrypts the repository", passwordKey)
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
		hint = "; if the Jobs get a role from the cloud instead, set repository.service_account"
	}
	return fmt.Errorf("it lacks the keys that a repository %s: needs: %s%s", kind.Scheme, strings.Join(wanted, ", or "), hint)
}

// checkRole returns an error that says what the Secret lacks if the Jobs have a role. The Secret needs only the keys that say where
// the store is. It must have static credentials either completely or not at all.
func (k Kind) checkRole(account ServiceAccount, keys []string) error {
	needed := k.role.needs
	if account.TokenAudience != "" {
		needed = append(slices.Clone(needed), k.role.withToken...)
	}
	for _, key := range needed {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("it lacks the key %s, which a repository %s: needs even if the Jobs have a role", key, k.Scheme)
		}
	}
	for _, set := range k.Credentials {
		static := slices.DeleteFunc(
			slices.Clone(set),
			func(key string) bool { return slices.Contains(k.role.needs, key) || slices.Contains(k.role.may, key) },
		)
		lacks := slices.DeleteFunc(slices.Clone(static), func(key string) bool { return slices.Contains(keys, key) })
		if len(lacks) > 0 && len(lacks) < len(static) {
			return fmt.Errorf(
				"it has only a part of the static credentials, which restic prefers to a role: add %s, or remove the rest of %s",
				strings.Join(lacks, " and "),
				strings.Join(static, " and "),
			)
		}
	}
	return nil
}

// ServiceAccount of the Jobs, if a cloud gives a role to it.
type ServiceAccount struct {
	// Name of an existing ServiceAccount. If it is "", one is created with Annotations.
	Name        string            `json:"name,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// TokenAudience is the audience of the token that is mounted, "" for no token.
	TokenAudience string `json:"token_audience,omitempty"`
}

func (a ServiceAccount) isSet() bool { return a.Name != "" || len(a.Annotations) > 0 }

// optionAnonymous lets restic use S3 without credentials.
const optionAnonymous = "s3.unsafe-anonymous-auth"

var (
	optionName  = regexp.MustCompile(`^[a-z0-9]+\.[a-z0-9-]+$`)
	optionValue = regexp.MustCompile(`^[A-Za-z0-9._:/@+,=-]+$`)
)

// CheckOption returns an error that says why an extended option of restic cannot be set for a repository with this URL, "" for
// one on a volume. Which options exist depends on the version of restic (restic options).
func CheckOption(repository, name, value string) error {
	scheme, _, found := strings.Cut(repository, ":")
	if !found {
		scheme = "local"
	}
	switch {
	case !optionName.MatchString(name):
		return fmt.Errorf("%q is not an option: write <kind of store>.<option>, such as \"s3.bucket-lookup\"", name)
	case !strings.HasPrefix(name, scheme+"."):
		return fmt.Errorf("%q is not an option of this repository: its options begin with %q", name, scheme+".")
	case name == "sftp.command", name == "sftp.args":
		return fmt.Errorf("%q is set by the provider, to use the key and the host keys in the Secret", name)
	case !optionValue.MatchString(value):
		return fmt.Errorf("%q cannot be the value of the option %q: use letters, digits, and . _ : / @ + , = -", value, name)
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

// SnapshotTo returns a repository in the form of the servers' Spec.
func SnapshotTo(r Repository, image string) server.SnapshotTo {
	to := server.SnapshotTo{
		URL:            r.URL,
		Claim:          r.Claim,
		Secret:         r.Secret,
		Image:          image,
		ServiceAccount: r.ServiceAccount.Name,
		TokenAudience:  r.ServiceAccount.TokenAudience,
	}
	if len(r.Options) > 0 {
		text, _ := json.Marshal(r.Options) // strings
		to.Options = string(text)
	}
	return to
}

// FromSnapshotTo is the inverse of SnapshotTo.
func FromSnapshotTo(to server.SnapshotTo) Repository {
	r := Repository{
		URL:            to.URL,
		Claim:          to.Claim,
		Secret:         to.Secret,
		ServiceAccount: ServiceAccount{Name: to.ServiceAccount, TokenAudience: to.TokenAudience},
	}
	_ = json.Unmarshal([]byte(to.Options), &r.Options) // anything else means no options
	return r
}

// flags returns the options in the notation of restic, on one line. No value needs quotes (CheckOption).
func (r Repository) flags() string {
	var flags []string
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		flags = append(flags, "-o "+name+"="+r.Options[name])
	}
	return strings.Join(flags, " ")
}

// location returns the repository in the notation of restic.
func (r Repository) location() string { return cmp.Or(r.URL, "/repository") }
