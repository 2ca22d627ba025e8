package wanted

import (
	"errors"
	"testing"
)

func TestError(t *testing.T) {
	t.Parallel()
	err := errors.New("a file is missing")
	for name, tt := range map[string]struct {
		err  error
		text string
		want bool
	}{
		"no error, and none is wanted": {nil, "", true},
		"no error, and one is wanted":  {nil, "missing", false},
		"the error that is wanted":     {err, "is missing", true},
		"another error":                {err, "is full", false},
		"an unwanted error":            {err, "", false},
	} {
		if got := Error(tt.err, tt.text); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
