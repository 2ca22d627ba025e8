package acctest

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	_ "embed" // record.sh
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// secretIDs records every UUID, every gossip key, and every private key in the Secrets of the provider while tests
// run.
type secretIDs struct {
	mu   sync.Mutex
	seen map[string]string // the Secret, by secret ID or key
}

// pemLine is the length of a full line of PEM. If line ends are written as \n, an n precedes it.
const pemLine = 64

var secretValues = regexp.MustCompile(
	fmt.Sprintf(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{%d,%d}`, pemLine, pemLine+1),
)

func (s *secretIDs) record(object any) {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range secret.Data {
		if bytes.HasPrefix(value, []byte("-----BEGIN CERTIFICATE")) { // certificates are public
			continue
		}
		where := secret.Namespace + "/" + secret.Name + ":" + key
		for _, id := range secretValues.FindAllString(string(value), -1) {
			s.seen[id[:min(len(id), pemLine)]] = where
		}
	}
}

// watchSecretIDs starts to record.
func watchSecretIDs(ctx context.Context) (*secretIDs, error) {
	config, err := kube.Config{ConfigPaths: []string{os.Getenv("KUBE_CONFIG_PATH")}}.RESTConfig()
	if err != nil {
		return nil, err
	}
	k, err := kube.NewClient(config, "acceptance-test")
	if err != nil {
		return nil, err
	}
	s := &secretIDs{seen: map[string]string{}}
	factory := informers.NewSharedInformerFactoryWithOptions(k, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = server.LabelManagedBy + "=" + server.ManagedBy
	}))
	_, err = factory.Core().V1().Secrets().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: s.record, UpdateFunc: func(_, after any) { s.record(after) },
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return s, nil
}

// leaks returns an error that names the files below a folder which contain a secret ID: logs, and the records of
// recordRuns. The error does not contain the secret ID. It is also an error if Terraform ran without leaving a state
// or a plan, or if there was no secret ID.
func (s *secretIDs) leaks(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	files, states, plans := 0, 0, 0
	written := os.DirFS(dir)
	err := fs.WalkDir(written, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(written, path)
		if err != nil {
			return err
		}
		text, plan := whatIsWritten(raw)
		files++
		if plan {
			plans++
		}
		if strings.Contains(d.Name(), "tfstate") {
			states++
		}
		found := map[string]bool{}
		for _, id := range secretValues.FindAll(text, -1) {
			where := s.seen[string(id)]
			if len(id) > pemLine {
				where = cmp.Or(s.seen[string(id[:pemLine])], s.seen[string(id[1:])])
			}
			if where != "" && !found[where] {
				found[where] = true
				errs = append(errs, fmt.Errorf("%s contains the secret ID of %s", path, where))
			}
		}
		return nil
	})
	fmt.Fprintf(
		os.Stderr,
		"%d secret IDs were looked for in %d files, of which %d are states and %d plans\n",
		len(s.seen),
		files,
		states,
		plans,
	)
	runs, globErr := fs.Glob(written, "run-*")
	if len(runs) > 0 && (states == 0 || plans == 0 || len(s.seen) == 0) {
		errs = append(errs, errors.New("there was no secret ID, or no file to search"))
	}
	return errors.Join(append(errs, err, globErr)...)
}

// configured is a secret ID in the configuration of a test.
var configured = regexp.MustCompile(`secret_id_wo = "[^"]*"`)

// whatIsWritten is the text of a file, and whether the file is a plan. A plan, as a file and as JSON, and the log of
// plugin-testing contain the configuration, which may contain a secret ID of the test: that is left out.
func whatIsWritten(raw []byte) (text []byte, plan bool) {
	var shown map[string]json.RawMessage
	if json.Unmarshal(raw, &shown) == nil && shown["planned_values"] != nil {
		delete(shown, "configuration")
		if rest, err := json.Marshal(shown); err == nil {
			return rest, true
		}
	}
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return configured.ReplaceAll(raw, nil), false
	}
	for _, f := range archive.File {
		if strings.HasPrefix(f.Name, "tfconfig/") {
			continue
		}
		part, err := fs.ReadFile(archive, f.Name)
		if err != nil {
			return raw, false
		}
		text = append(append(text, part...), '\n')
	}
	return text, true
}

// recordScript runs Terraform or OpenTofu and records the run.
//
//go:embed record.sh
var recordScript []byte

// recordRuns makes tests run Terraform or OpenTofu by a script that keeps, in a folder for each run, its output,
// state, and plan.
func recordRuns(dir string) error {
	const cli = "TF_ACC_TERRAFORM_PATH"
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bin, "path"), []byte(os.Getenv(cli)), 0o600); err != nil {
		return err
	}
	script := filepath.Join(bin, filepath.Base(os.Getenv(cli))) // the name shows which of the two it is
	if err := os.WriteFile(script, recordScript, 0o700); err != nil {
		return err
	}
	return os.Setenv(cli, script)
}

// runLogged runs tests while Terraform and the provider log everything into a folder, with each state and plan, and
// fails if the folder contains a secret ID.
func runLogged(parent string, run func() int) (code int, err error) {
	dir, err := os.MkdirTemp(parent, "package-*")
	if err != nil {
		return 1, err
	}
	if err := recordRuns(dir); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	defer cancel()
	ids, err := watchSecretIDs(ctx)
	if err != nil {
		return 1, err
	}
	for k, v := range map[string]string{
		"TF_LOG": "TRACE", "TF_ACC_LOG_PATH": filepath.Join(dir, "provider.log"),
		"TF_LOG_PATH_MASK": filepath.Join(dir, "%s.log"), "TF_LOG_PATH": filepath.Join(dir, "cli.log"),
	} {
		if err := os.Setenv(k, v); err != nil {
			return 1, err
		}
	}
	return run(), ids.leaks(dir)
}
