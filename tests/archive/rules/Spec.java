import java.io.File;
import java.util.Map;
import java.util.TreeMap;
import org.pytorch.serve.archive.workflow.Manifest;
import org.pytorch.serve.archive.workflow.WorkflowArchive;
import org.pytorch.serve.ensemble.Node;
import org.pytorch.serve.ensemble.WorkFlow;
import org.pytorch.serve.ensemble.WorkflowModel;

/** Reads `spec.yaml` of each folder as TorchServe does: one line each, what it takes, or an error. */
public class Spec {
    public static void main(String[] folders) {
        for (String folder : folders) {
            System.out.println(read(new File(folder)));
        }
    }

    private static String read(File folder) {
        Manifest manifest = new Manifest();
        manifest.getWorkflow().setWorkflowName("wf");
        manifest.getWorkflow().setSpecFile("spec.yaml");
        manifest.getWorkflow().setHandler("handler.py");
        StringBuilder line = new StringBuilder("taken");
        try {
            WorkFlow workflow = new WorkFlow(new WorkflowArchive(manifest, "wf.war", folder, false));
            Map<String, Map<String, java.util.Set<String>>> graph = workflow.getDag().getDagMap();
            for (Map.Entry<String, Node> entry : new TreeMap<>(workflow.getDag().getNodes()).entrySet()) {
                WorkflowModel model = entry.getValue().getWorkflowModel();
                line.append('\t').append(entry.getKey())
                    .append('|').append(String.join(",", new java.util.TreeSet<>(graph.get(entry.getKey()).get("outDegree"))))
                    .append('|').append(model.getUrl())
                    .append('|').append(model.getMaxWorkers())
                    .append('|').append(model.getBatchSize())
                    .append('|').append(model.getMaxBatchDelay())
                    .append('|').append(model.getRetryAttempts())
                    .append('|').append(model.getTimeOutMs());
            }
        } catch (Exception error) {
            return "refused\t" + error.getClass().getSimpleName();
        }
        return line.toString();
    }
}
