package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

// composeFile reads compose.yaml as docker compose does, and checks it against the schema.
func composeFile(t *testing.T) *types.Project {
	t.Helper()
	text, err := os.ReadFile("compose.yaml")
	require.NoError(t, err)
	dir, err := filepath.Abs(".")
	require.NoError(t, err)
	project, err := loader.LoadWithContext(soon(t), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}},
	})
	require.NoError(t, err)
	return project
}

// composeCommandLines has what each service starts.
func composeCommandLines(t *testing.T) [][]string {
	t.Helper()
	var lines [][]string
	for _, service := range composeFile(t).Services {
		lines = append(lines, slices.Concat(service.Entrypoint, service.Command))
	}
	return lines
}

func composeProbes(t *testing.T) [][]string {
	t.Helper()
	var probes [][]string
	for _, service := range composeFile(t).Services {
		require.Equal(t, "CMD", service.HealthCheck.Test[0])
		probes = append(probes, service.HealthCheck.Test[1:])
	}
	return probes
}

func TestComposeHasThreeIndependentServersThatKeepTheirData(t *testing.T) {
	project := composeFile(t)
	require.Len(t, project.Services, 3)
	volumes, ports := map[string]bool{}, map[string]bool{}
	for _, service := range project.Services {
		require.Equal(t, types.RestartPolicyAlways, service.Restart)
		require.GreaterOrEqual(t, int64(service.MemLimit), 2*maxMemory(t),
			"AOF rewrites and buffers need memory too")
		require.True(t, service.ReadOnly)
		require.Equal(t, "redis", service.User)
		require.Equal(t, []string{"ALL"}, service.CapDrop)

		require.Len(t, service.Volumes, 1)
		require.Equal(t, types.VolumeTypeVolume, service.Volumes[0].Type)
		require.Equal(t, "/data", service.Volumes[0].Target)
		require.Contains(t, project.Volumes, service.Volumes[0].Source)
		volumes[service.Volumes[0].Source] = true

		require.Len(t, service.Ports, 1)
		require.Equal(t, "127.0.0.1", service.Ports[0].HostIP)
		require.EqualValues(t, 6379, service.Ports[0].Target)
		ports[service.Ports[0].Published] = true

		// The server finds its files where it is told to look for them.
		for _, config := range service.Configs {
			require.Contains(t, service.Command, config.Target)
			require.Equal(t, filepath.Base(config.Target),
				filepath.Base(project.Configs[config.Source].File))
		}
		require.Len(t, service.Configs, 2)
	}
	require.Len(t, volumes, 3, "each has data of its own")
	require.Len(t, ports, 3)
}
