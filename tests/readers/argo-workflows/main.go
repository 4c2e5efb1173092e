// Command argo-workflows reads resources as lines of JSON, and writes for each a line with what a step of Argo Workflows
// concludes from it that waits for the resource. The loop of Argo's own executor decides, by the conditions of a Workflow or by
// others.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/argoproj/argo-workflows/v4/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v4/util/logging"
	"github.com/argoproj/argo-workflows/v4/workflow/executor"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// verdict is what the step does: it has Succeeded, has Failed, or Waits.
type verdict struct {
	Step  string `json:"step"`
	Error string `json:"error,omitempty"`
}

func main() {
	workflow := flag.String("workflow", "", "a file with a Workflow that has a resource template")
	success := flag.String("success", "", "another successCondition than the template's")
	failure := flag.String("failure", "", "another failureCondition than the template's")
	flag.Parse()
	if err := run(*workflow, *success, *failure); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(workflow, success, failure string) error {
	resource, err := readResource(workflow)
	if err != nil {
		return err
	}
	if success != "" {
		resource.SuccessCondition = success
	}
	if failure != "" {
		resource.FailureCondition = failure
	}
	template := v1alpha1.Template{Resource: resource}
	if err := os.Setenv("RESOURCE_STATE_CHECK_INTERVAL", "1ms"); err != nil {
		return err
	}
	output := json.NewEncoder(os.Stdout)
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		judged, err := judge(template, line)
		if err != nil {
			return err
		}
		if err := output.Encode(judged); err != nil {
			return err
		}
	}
}

// readResource reads the resource template of a Workflow. A field that Argo does not know is an error.
func readResource(path string) (*v1alpha1.ResourceTemplate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var workflow v1alpha1.Workflow
	if err := yaml.UnmarshalStrict(text, &workflow); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for _, template := range workflow.Spec.Templates {
		if template.Resource != nil {
			return template.Resource, nil
		}
	}
	return nil, fmt.Errorf("%s has no resource template", path)
}

// judge runs the executor's loop until it has decided, or asks for the resource a second time.
func judge(template v1alpha1.Template, resource []byte) (*verdict, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = logging.WithLogger(ctx, logging.NewSlogLoggerCustom(logging.Error, logging.Text, os.Stderr))
	once := &answerOnce{resource: resource, then: cancel}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://127.0.0.1:1", Transport: once, QPS: -1})
	if err != nil {
		return nil, err
	}
	step := executor.WorkflowExecutor{Template: template, RESTClient: client.RESTClient()}
	path := "apis/okid.io/v1alpha1/namespaces/default/verifications/alice"
	err = step.WaitResource(ctx, "default", "alice", path)
	switch {
	case once.again:
		return &verdict{Step: "Waits"}, nil
	case err != nil:
		return &verdict{Step: "Failed", Error: err.Error()}, nil
	default:
		return &verdict{Step: "Succeeded"}, nil
	}
}

// answerOnce answers the first request with the resource. At the second one it ends the loop.
type answerOnce struct {
	resource []byte
	then     context.CancelFunc
	asked    bool
	again    bool
}

func (a *answerOnce) RoundTrip(request *http.Request) (*http.Response, error) {
	if a.asked {
		a.again = true
		a.then()
		return nil, context.Canceled
	}
	a.asked = true
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(bytes.NewReader(a.resource)),
		Request:    request,
	}, nil
}
