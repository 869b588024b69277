package tablesv1
