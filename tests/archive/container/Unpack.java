import java.io.BufferedInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.InputStream;
import org.pytorch.serve.archive.utils.ZipUtils;

/** Unpacks archives as TorchServe does, with TorchServe's own class: FILE FOLDER, and so on. */
public class Unpack {
    public static void main(String[] args) throws Exception {
        for (int i = 0; i < args.length; i += 2) {
            File folder = new File(args[i + 1]);
            folder.mkdirs();
            try (InputStream file = new BufferedInputStream(new FileInputStream(args[i]))) {
                if (args[i].endsWith(".mar")) {
                    ZipUtils.unzip(file, folder);
                } else {
                    ZipUtils.decompressTarGzipFile(file, folder);
                }
                System.out.println(args[i]);
            } catch (Exception error) {
                System.out.println(args[i] + ": " + error);
            }
        }
    }
}
