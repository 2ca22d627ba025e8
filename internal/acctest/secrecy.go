package acctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// secretIDs records every UUID that a Secret of the provider held while tests
// ran: management tokens and delivered tokens.
type secretIDs struct {
	mu   sync.Mutex
	seen map[string]string // by secret ID, the Secret
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func (s *secretIDs) record(object any) {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range secret.Data {
		for _, id := range uuids.FindAllString(string(value), -1) {
			s.seen[id] = secret.Namespace + "/" + secret.Name + ":" + key
		}
	}
}

// watchSecretIDs begins to record.
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

// leaks returns an error that names the files under a folder which hold a secret
// ID; the secret ID itself is not in it. No log, or no secret ID, is an error too.
func (s *secretIDs) leaks(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	files := 0
	logs := os.DirFS(dir)
	err := fs.WalkDir(logs, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(logs, path)
		if err != nil {
			return err
		}
		files++
		for id, where := range s.seen {
			if bytes.Contains(text, []byte(id)) {
				errs = append(errs, fmt.Errorf("%s holds the secret ID of %s", path, where))
			}
		}
		return nil
	})
	fmt.Fprintf(os.Stderr, "%d secret IDs were looked for in %d logs\n", len(s.seen), files)
	if files == 0 || len(s.seen) == 0 {
		errs = append(errs, errors.New("there was nothing to look for, or nowhere to look"))
	}
	return errors.Join(append(errs, err)...)
}

// runLogged runs tests while Terraform and the provider log everything into a
// folder, and fails if a secret ID is in there.
func runLogged(dir string, run func() int) (code int, err error) {
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
